package view

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

const sizePrefixes = "KMGTPE"

// ParseSize reads a number of bytes as GNU coreutils do: 10G and 10GiB are 10·1024³, 10GB is
// 10·1000³, 512 and 512B are bytes. Letters may be small, and a blank may stand before them.
func ParseSize(s string) (int64, error) {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789."))
	number, err := strconv.ParseFloat(s[:digits], 64)
	if err != nil {
		return 0, badSize(s)
	}
	unit := strings.ToUpper(strings.TrimPrefix(s[digits:], " "))
	factor := 1.0
	if unit != "" && unit != "B" {
		power := strings.IndexByte(sizePrefixes, unit[0]) + 1
		base := 1024.0
		switch unit[1:] {
		case "", "IB":
		case "B":
			base = 1000
		default:
			power = 0
		}
		if power == 0 {
			return 0, badSize(s)
		}
		factor = math.Pow(base, float64(power))
	}
	size := math.Round(number * factor)
	if size >= math.MaxInt64 {
		return 0, fmt.Errorf("size %q: too large", s)
	}
	return int64(size), nil
}

func badSize(s string) error {
	return fmt.Errorf("size %q: it must look like 512, 10G, 500MiB or 2GB", s)
}

// FormatSize prints a number of bytes in three or four digits: 512 B, 1.5 KiB, 900 MiB.
func FormatSize(bytes int64) string {
	if bytes < 0 {
		return "-" + FormatSize(-max(bytes, -math.MaxInt64))
	}
	if bytes < 1024 {
		return strconv.FormatInt(bytes, 10) + " B"
	}
	value, power := float64(bytes)/1024, 0
	for value >= 1023.5 && power < len(sizePrefixes)-1 {
		value /= 1024
		power++
	}
	digits := 0
	if value < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(value, 'f', digits, 64) + " " + sizePrefixes[power:power+1] + "iB"
}
