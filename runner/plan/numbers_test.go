package plan

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
)

func TestNumber(t *testing.T) {
	for _, tc := range []struct{ number, want string }{
		{"0", "0"}, {"1", "1"}, {"1.0", "1"}, {"1e0", "1"}, {"10e-1", "1"}, {"0.1E+1", "1"}, {"-1.50", "-1.5"}, {"100", "100"}, {"1e2", "100"},
		{"0.001", "0.001"}, {"1e-3", "0.001"}, {"0.0e7", "0"}, {"-0", "-0"}, {"-0.0", "-0"},
		// Exact, far beyond what a float has.
		{"12345678901234567890", "12345678901234567890"}, {"0.1000000000000000000000000000001", "0.1000000000000000000000000000001"},
		{"1" + strings.Repeat("0", 20), "1" + strings.Repeat("0", 20)}, {"1" + strings.Repeat("0", 21), "1e21"}, {"1.5e30", "15e29"}, {"1e-30", "1e-30"},
		// Nothing is written out that would be long, and nothing overflows.
		{"1e999999999", "1e999999999"}, {"1e99999999999999999999", "1e99999999999999999999"}, {"1.0e-99999999999999999999", "1.0e-99999999999999999999"},
	} {
		if got := number(json.Number(tc.number)); string(got) != tc.want {
			t.Errorf("%s: got %s, want %s", tc.number, got, tc.want)
		}
	}
}

// FuzzNumber holds that two numbers have one spelling if and only if they are
// the same, digit by digit.
func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0", "-0", "1", "1.0", "10", "1e1", "100e-1", "0.25", "25E-2", "1e21", "1000000000000000000000", "1e-25", "0.1", "0.10000000000000000555", "-3e+05"} {
		f.Add(s, "1")
		f.Add(s, s+"0")
		f.Add(s, "-"+s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := rational(a), rational(b)
		if x == nil || y == nil {
			return
		}
		p, q := number(json.Number(a)), number(json.Number(b))
		if back := rational(string(p)); back == nil || back.Cmp(x) != 0 || number(p) != p {
			t.Fatalf("%s became %s, then %s", a, p, number(p))
		}
		if len(p) > len(a)+2*maxZeros {
			t.Fatalf("%s became %s", a, p)
		}
		same := x.Cmp(y) == 0 && (x.Sign() != 0 || a[0] == b[0] || a[0] != '-' && b[0] != '-')
		if same != (p == q) {
			t.Fatalf("%s is %s, %s is %s", a, p, b, q)
		}
	})
}

// rational reads a number of JSON with an exponent of four digits at most; nil
// for all else.
func rational(s string) *big.Rat {
	if !json.Valid([]byte(s)) || s == "" || s[0] != '-' && (s[0] < '0' || s[0] > '9') || s[len(s)-1] < '0' || s[len(s)-1] > '9' {
		return nil
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 && len(s)-i > 6 || len(s) > 1000 {
		return nil
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil
	}
	return r
}
