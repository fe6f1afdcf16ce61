package redis

import (
	"fmt"
	"strconv"
	"time"
)

// row reads the values of a script's reply one after the other. The first
// mistake stays in err.
type row struct {
	values []any
	err    error
}

// text returns the next value; a field that is not stored is "".
func (r *row) text() string {
	if len(r.values) == 0 {
		r.fail(fmt.Errorf("the answer is too short"))
		return ""
	}
	value := r.values[0]
	r.values = r.values[1:]
	s, ok := value.(string)
	if !ok && value != nil {
		r.fail(fmt.Errorf("a %T in the answer", value))
	}
	return s
}

func (r *row) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// bytes is text; none is nil.
func (r *row) bytes() []byte {
	if s := r.text(); s != "" {
		return []byte(s)
	}
	return nil
}

func (r *row) flag() bool { return r.text() != "" }

func (r *row) number() int64 {
	s := r.text()
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		r.fail(err)
	}
	return n
}

func (r *row) time() time.Time {
	s := r.text()
	if s == "" {
		return time.Time{}
	}
	t, err := instant(s)
	if err != nil {
		r.fail(err)
	}
	return t
}

// list returns a reply that is a list, or none.
func list(reply any) []any {
	values, _ := reply.([]any)
	return values
}

// page reads the reply of a script that goes through an index in steps: where
// to go on ("" at the end), and what it found.
func page[T any](reply any, scan func(any) ([]T, error)) (from string, found []T, err error) {
	values := list(reply)
	if len(values) != 2 {
		return "", nil, fmt.Errorf("the answer has %d parts", len(values))
	}
	from, _ = values[0].(string)
	found, err = scan(values[1])
	return from, found, err
}

// eachPage has do look at one page after the other of an index of names that
// start with prefix, byte for byte. It is given the ends of the range that is
// left, as ZRANGEBYLEX takes them, and returns the last name of the page, or ""
// when there are no more.
func eachPage(prefix string, do func(from, to string) (last string, err error)) error {
	from, to := "["+prefix, "+"
	if end, ok := after(prefix); ok {
		to = "(" + end
	}
	for {
		last, err := do(from, to)
		if err != nil || last == "" {
			return err
		}
		from = "(" + last
	}
}

// after returns the smallest string greater than all that start with prefix;
// ok is false where there is none, as for an empty prefix.
func after(prefix string) (end string, ok bool) {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0xff {
			b[i]++
			return string(b[:i+1]), true
		}
	}
	return "", false
}
