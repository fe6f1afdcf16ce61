package storetest

import (
	"testing"

	"holdfast/lock"
	"holdfast/lock/locktest"
	"holdfast/queue/queuetest"
)

// The fakes keep the same promises as the backends.

func TestMemoryQueue(t *testing.T) {
	RunQueue(t, func(*testing.T) Queue {
		m := &queuetest.Memory{}
		return Queue{A: m, B: m, Counts: m.Counts}
	})
}

func TestMemoryLocks(t *testing.T) {
	RunLocks(t, func(*testing.T) (a, b lock.Driver) {
		m := &locktest.Memory{}
		return m, m
	})
}
