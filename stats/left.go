package stats

import (
	"math"
	"time"
)

// Runs describes the durations of runs that have ended, in seconds: what is needed of them, and no
// more, so that a scheduler can keep it as it goes.
type Runs struct {
	N   int64
	Sum float64
	Sq  float64 // sum of the squares
}

// Left is how long the rest of a sweep takes, and how uncertain that is. Known is false as long as
// no run has ended.
type Left struct {
	Known bool
	Time  time.Duration
	// Error is half the width of the 95 % prediction interval; 0 while fewer than two runs have
	// ended, or when there is nothing left: then nothing is known of it.
	Error time.Duration
}

// Predict estimates the time that the rest takes from the runs of the same kind that have ended:
// waiting is how many are still to begin, running for how long those under way have run, slots how
// many can run at once.
//
// The rest are k draws from the distribution of which n are known, so that their sum is k·mean,
// with the variance k·s²·(1+k/n): k for their own spread, k²/n for that of the mean. They keep the
// slots busy evenly, and the last of them is waited for alone, on average for half a run. It
// supposes that what is left resembles what has ended.
func Predict(r Runs, waiting int, running []time.Duration, slots int) Left {
	rest := float64(waiting + len(running))
	if r.N == 0 || rest == 0 || slots == 0 {
		return Left{Known: rest == 0}
	}
	n := float64(r.N)
	mean := r.Sum / n
	work, longest := float64(waiting)*mean, 0.0
	for _, d := range running {
		left := max(mean-d.Seconds(), 0)
		work += left
		longest = max(longest, left)
	}
	wide := math.Min(float64(slots), rest)
	estimate := work / wide
	if waiting > 0 {
		estimate += mean * (wide - 1) / (2 * wide)
	}
	l := Left{Known: true, Time: seconds(max(estimate, longest))}
	if r.N > 1 {
		s := math.Sqrt(max((r.Sq-r.Sum*mean)/(n-1), 0))
		spread := s * math.Sqrt(rest*(1+rest/n)) / wide
		if wide > 1 {
			spread = math.Hypot(spread, s/2) // of the end, when not all slots are busy
		}
		l.Error = seconds(quantile(int(min(r.N, 1_000_000))) * spread)
	}
	return l
}

func seconds(s float64) time.Duration {
	if s > float64(math.MaxInt64)/1e9/2 {
		return math.MaxInt64 / 2
	}
	return time.Duration(s * float64(time.Second))
}
