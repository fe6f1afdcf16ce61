package redis

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Times are stored as nanoseconds since 1970 in UTC, in as many digits as all
// of them fit into, so that they sort as strings and no number of Lua has to
// hold one; 0 stands for none.

// stamp returns t as it is stored. What int64 nanoseconds cannot hold (before
// 1970, after 2262) becomes the nearest that they can.
func stamp(t time.Time) string {
	switch {
	case t.IsZero():
		return digits(0)
	case t.Unix() < 0:
		return digits(1)
	case t.Unix() >= math.MaxInt64/int64(time.Second):
		return digits(math.MaxInt64)
	}
	return digits(t.UnixNano())
}

// span returns a duration as it is stored; none is below zero.
func span(d time.Duration) string { return digits(int64(max(0, d))) }

func digits(n int64) string { return fmt.Sprintf("%019d", n) }

// instant is the inverse of stamp.
func instant(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n == 0 {
		return time.Time{}, err
	}
	return time.Unix(0, n).UTC(), nil
}

// stored returns t as it comes back from the store, without what a time.Time
// carries beside its instant.
func stored(t time.Time) time.Time {
	back, _ := instant(stamp(t)) // stamp writes what instant reads
	return back
}
