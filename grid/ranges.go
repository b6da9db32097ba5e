package grid

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// numberRange is FIRST..LAST, with a step, a factor, or a number of even steps. Its numbers are
// exact: 0.1..0.5/5 is 0.1, 0.2, 0.3, 0.4, 0.5, whatever binary fractions make of them.
type numberRange struct {
	text        string
	first, last *big.Rat
	by          byte // '+', '*', '/', or 0: a step of 1 towards the end
	step        *big.Rat
	width       int // 01..10 keeps its zeros
}

const numberPattern = `[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,2})?`

// They are compiled when they are first needed: their repeats make them large, and every start of
// the program would pay for them.
var (
	rangeRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(` + numberPattern + `)\.\.(` + numberPattern +
			`)?(?:([+*/])(` + numberPattern + `))?$`)
	})
	// steppedRE is how shells write a step.
	steppedRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^` + numberPattern + `\.\.` + numberPattern + `\.\.` +
			numberPattern + `$`)
	})
	numberRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^` + numberPattern + `$`)
	})
)

// parseRange reads a range; ok says whether the text is one at all.
func parseRange(text string) (r numberRange, ok bool, err error) {
	m := rangeRE().FindStringSubmatch(text)
	if m == nil {
		if strings.Contains(text, "..") && steppedRE().MatchString(text) {
			return r, false, errorf("%s is no range", text).
				hint("write FIRST..LAST+STEP, or quote it to take it as text")
		}
		return r, false, nil
	}
	if m[2] == "" {
		return r, true, errorf("the range %s never ends", text).
			hint("write its last number: %s8, or quote it to take it as text",
				strings.SplitAfter(text, "..")[0])
	}
	r = numberRange{text: text, first: rat(m[1]), last: rat(m[2]), width: padding(m[1], m[2])}
	if m[3] != "" {
		r.by, r.step = m[3][0], rat(m[4])
	}
	return r, true, r.check()
}

// rat reads a number that the pattern has matched.
func rat(text string) *big.Rat {
	n, ok := new(big.Rat).SetString(text)
	if !ok {
		return new(big.Rat)
	}
	return n
}

// padding is the width to which a range with a leading zero is filled up; 0: none.
func padding(first, last string) int {
	padded := func(s string) bool {
		return len(s) > 1 && s[0] == '0' && strings.Trim(s, "0123456789") == ""
	}
	if padded(first) || padded(last) {
		return max(len(first), len(last))
	}
	return 0
}

// check refuses ranges that would not end.
func (r *numberRange) check() error {
	direction := r.last.Cmp(r.first)
	one := big.NewRat(1, 1)
	never := func(why string) error {
		return errorf("the range %s never ends: %s", r.text, why)
	}
	switch r.by {
	case 0:
		r.by, r.step = '+', one
		if direction < 0 {
			r.step = big.NewRat(-1, 1)
		}
		if span := new(big.Rat).Sub(r.last, r.first); !span.IsInt() {
			return errorf("the range %s has no step, and whole steps from its first number "+
				"don't lead to its last", r.text).
				hint("say the step: %[1]s+STEP, %[1]s*10, or %[1]s/5 for five even ones; or quote "+
					"it to take it as text", r.text)
		}
	case '+':
		if direction != 0 && r.step.Sign() != direction {
			return never("its step leads away from its end")
		}
	case '*':
		if r.first.Sign() == 0 || r.last.Sign() != r.first.Sign() {
			return never("no factor leads from its first number to its last")
		}
		grows := r.first.Sign() * direction // of the absolute value
		if r.step.Sign() <= 0 || grows != 0 && r.step.Cmp(one) != grows {
			return never("its factor leads away from its end")
		}
	case '/':
		if !r.step.IsInt() || r.step.Sign() <= 0 || !r.step.Num().IsInt64() ||
			r.step.Num().Int64() > maxValues {
			return errorf("the range %s is to have %s values", r.text, r.step.RatString()).
				hint("write FIRST..LAST/N, with N from 1 to %d", maxValues)
		}
		if r.step.Num().Int64() == 1 && direction != 0 {
			return errorf("the range %s has two ends and one value", r.text).
				hint("write at least /2")
		}
	}
	return nil
}

// values are the numbers of the range, as text.
func (r *numberRange) values() ([]string, error) {
	if r.by == '/' {
		return r.even(), nil
	}
	direction := r.last.Cmp(r.first)
	if r.by == '+' && direction != 0 {
		steps := new(big.Rat).Quo(new(big.Rat).Sub(r.last, r.first), r.step)
		if steps.Cmp(big.NewRat(maxValues, 1)) >= 0 {
			return nil, errorf("the range %s has more than %d values", r.text, maxValues)
		}
		if r.first.IsInt() && r.first.Num().IsInt64() && r.last.IsInt() && r.last.Num().IsInt64() &&
			r.step.IsInt() && r.width == 0 {
			return integers(r.first.Num().Int64(), r.last.Num().Int64(), r.step.Num().Int64()), nil
		}
	}
	var values []string
	for n := new(big.Rat).Set(r.first); ; {
		values = append(values, r.format(n))
		if direction == 0 {
			return values, nil
		}
		if r.by == '+' {
			n = new(big.Rat).Add(n, r.step)
		} else {
			n = new(big.Rat).Mul(n, r.step)
		}
		if c := r.last.Cmp(n); c != 0 && c != direction {
			return values, nil
		}
		if len(values) == maxValues {
			return nil, errorf("the range %s has more than %d values", r.text, maxValues)
		}
		// A factor close to 1 makes exact numbers ever longer.
		if len(n.Denom().Bits()) > 64 || len(n.Num().Bits()) > 64 {
			return nil, errorf("the range %s has numbers of too many digits", r.text).
				hint("take another factor, or FIRST..LAST/N")
		}
	}
}

// integers serve nearly all ranges: exact fractions would take a hundred times as long.
func integers(first, last, step int64) []string {
	span, by := uint64(last)-uint64(first), uint64(step)
	if step < 0 {
		span, by = -span, -by
	}
	count := span/by + 1
	values := make([]string, count)
	for i := range values {
		values[i] = strconv.FormatInt(first+int64(i)*step, 10)
	}
	return values
}

func (r *numberRange) even() []string {
	n := r.step.Num().Int64()
	values := make([]string, 0, n)
	span := new(big.Rat).Sub(r.last, r.first)
	for i := range n {
		at := new(big.Rat).Set(r.first)
		if n > 1 {
			at.Add(at, new(big.Rat).Mul(span, big.NewRat(i, n-1)))
		}
		values = append(values, r.format(at))
	}
	return values
}

// format writes a number exactly where it has a finite and short decimal form, else with ten
// significant digits.
func (r *numberRange) format(n *big.Rat) string {
	if n.IsInt() {
		text := n.Num().String()
		for r.width > len(text) && n.Sign() >= 0 {
			text = "0" + text
		}
		return text
	}
	if digits, exact := n.FloatPrec(); exact && digits <= 15 {
		return n.FloatString(digits)
	}
	f, _ := n.Float64()
	return strconv.FormatFloat(f, 'g', 10, 64)
}
