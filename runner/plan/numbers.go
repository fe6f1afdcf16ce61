package plan

import (
	"encoding/json"
	"strconv"
	"strings"
)

// maxZeros is how many zeros a plain number may have for an exponent, before
// it is written with one. It bounds what "1e999999999" can ask for.
const maxZeros = 20

// numbers writes the numbers of a decoded tree in one spelling, in place, and
// returns the tree. To an engine 1, 1.0 and 1e0 are one number: it reads them
// as decimals of far more digits than it prints. So they are to the digest,
// which then does not depend on how a version of the engine prints numbers.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return number(v)
	case map[string]any:
		for k, child := range v {
			switch child.(type) {
			case json.Number, map[string]any, []any:
				v[k] = numbers(child)
			}
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	}
	return v
}

// number returns the one spelling of a number in JSON: digits without zeros at
// the ends, with a point where that takes few zeros more, else an exponent:
// 1.5, 100, 0.001, 1e21. It is exact: numbers that differ in any digit stay
// apart. -0 is not 0, since a provider may tell them apart, and an exponent of
// more than ten digits is left as it is; both count as changed where they
// need not.
func number(n json.Number) json.Number {
	s := string(n)
	if last := len(s) - 1; last < 0 || s[last] != '0' && !strings.ContainsAny(s, ".eE") {
		return n
	}
	mantissa, exponent := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		var err error
		mantissa = s[:i]
		if exponent, err = strconv.Atoi(s[i+1:]); err != nil || len(s)-i > 11 {
			return n
		}
	}
	sign := ""
	if strings.HasPrefix(mantissa, "-") {
		sign, mantissa = "-", mantissa[1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	exponent -= len(fraction)
	trimmed := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(trimmed)
	if trimmed == "" {
		return json.Number(sign + "0")
	}
	return json.Number(sign + spell(trimmed, exponent))
}

// spell writes digits times ten to the exponent.
func spell(digits string, exponent int) string {
	point := len(digits) + exponent // digits before the point
	switch {
	case exponent > maxZeros || point < -maxZeros:
		return digits + "e" + strconv.Itoa(exponent)
	case exponent >= 0:
		return digits + strings.Repeat("0", exponent)
	case point > 0:
		return digits[:point] + "." + digits[point:]
	}
	return "0." + strings.Repeat("0", -point) + digits
}
