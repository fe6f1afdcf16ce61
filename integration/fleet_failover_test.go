//go:build linux

package integration

import (
	"context"
	"path/filepath"
	"testing"

	"holdfast/store"
	"holdfast/store/redis/redistest"
)

// TestFailoverForgets loses all that a master was told in its last seconds: a
// merge and its apply, one that is being applied, one that waits to be, a pull
// request with its plan, and one that is being planned. The replica that takes
// over knows none of it. Everything is found out again from the host and from
// the cloud: each pull request has its plan and one comment, and each merge was
// applied once.
func TestFailoverForgets(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{
		"done/main.tf": app(), "busy/main.tf": app(), "quiet/main.tf": app(), "open/main.tf": app(), "slow/main.tf": app(),
	})
	wire := newCable(t, f.redis.Addr)
	for _, role := range []string{"serve", "worker", "worker"} {
		n := f.node(role, "--workers", map[string]string{"serve": "0", "worker": "2"}[role])
		n.store = wire.url()
		n.start()
	}
	files := []string{filepath.Join(t.TempDir(), "apply"), filepath.Join(t.TempDir(), "plan")}
	done := f.openOne("done", "done/more.tf", server("done"))
	busy := f.openOne("busy", "busy/more.tf", server("busy")+waits(files[0], "smallcloud_server.busy")+server("after", "depends_on = [data.smallcloud_image.slow]"))
	quiet := f.openOne("quiet", "quiet/more.tf", server("quiet"))
	for _, number := range []int{done, busy, quiet} {
		f.planned(number)
	}

	replica := redistest.Replica(t, f.redis)
	if err := replica.Client().ReplicaOf(context.Background(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	f.repo.Merge(done, "merge")
	f.appliedOnce(done, "done")
	f.repo.Merge(busy, "merge")
	f.until("the cloud is at work", func() bool { return f.cloud.created("busy") == 1 })
	open := f.openOne("open", "open/more.tf", server("open"))
	f.planned(open)
	slow := f.openOne("slow", "slow/more.tf", server("slow")+waits(files[1], ""))
	f.reaches(slow, store.KindPlan, "plan")
	f.repo.Merge(quiet, "merge")
	f.until("its merge is known", func() bool {
		return len(f.runs(store.RunFilter{Kind: store.KindApply, PullRequest: quiet})) == 1
	})

	f.redis.Kill()
	f.redis = replica
	if n := len(f.runs(store.RunFilter{Kind: store.KindApply})) + len(f.runs(store.RunFilter{PullRequest: open})); n != 0 {
		t.Fatalf("the replica knows of %d runs that it was to forget", n)
	}
	touch(t, files[0])
	touch(t, files[1])
	wire.lead(replica.Addr)

	f.appliedOnce(done, "done")
	f.appliedOnce(busy, "busy", "after")
	f.appliedOnce(quiet, "quiet")
	for _, number := range []int{open, slow} {
		f.planned(number)
	}
	for _, number := range []int{done, busy, quiet} {
		f.comment(number, "### Holdfast apply of")
	}
	f.unlocked()
	f.quiet()
	if n := len(f.cloud.resources()); n != 4 {
		t.Errorf("the cloud has %d resources instead of 4", n)
	}
}
