//go:build unix

package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Cluster starts three masters that have a third of the slots each, and waits
// until all of them know it.
func Cluster(t testing.TB, args ...string) []*Server {
	t.Helper()
	var nodes []*Server
	for i := range 3 {
		file := filepath.Join(t.TempDir(), fmt.Sprintf("nodes-%d.conf", i))
		nodes = append(nodes, Start(t, append([]string{"--cluster-enabled", "yes", "--cluster-config-file", file}, args...)...))
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	const slots = 16384
	first := nodes[0].Client()
	for i, n := range nodes {
		if err := n.Client().ClusterAddSlotsRange(ctx, i*slots/3, (i+1)*slots/3-1).Err(); err != nil {
			t.Fatal(err)
		}
		// Two nodes that think of one epoch would quarrel about their slots.
		if err := n.Client().Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes[1:] {
		host, port, _ := net.SplitHostPort(n.Addr)
		if err := first.ClusterMeet(ctx, host, port).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		waitForCluster(ctx, t, n.Client())
	}
	return nodes
}

// waitForCluster waits until a node knows where all slots are.
func waitForCluster(ctx context.Context, t testing.TB, node *goredis.Client) {
	t.Helper()
	for {
		info, err := node.ClusterInfo(ctx).Result()
		if err == nil && strings.Contains(info, "cluster_state:ok") {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the cluster does not come together: %v\n%s", err, info)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Replica starts a server that follows master, and waits until it has all of
// its data.
func Replica(t testing.TB, master *Server, args ...string) *Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(master.Addr)
	s := Start(t, append([]string{"--replicaof", host + " " + port, "--repl-diskless-sync-delay", "0"}, args...)...)
	c := s.Client()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		info, err := c.Info(ctx, "replication").Result()
		if err == nil && strings.Contains(info, "master_link_status:up") {
			return s
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the replica does not follow: %v\n%s", err, info)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Sentinel starts a Sentinel that knows master, which has a replica, by name,
// and puts the replica in its place when it has not answered for half a second.
// It returns the Sentinel's HOST:PORT.
func Sentinel(t testing.TB, master *Server, name string) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(master.Addr)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	own := freePort(t)
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\nsentinel monitor %[2]s %s %s 1\n"+
		"sentinel down-after-milliseconds %[2]s 500\nsentinel failover-timeout %[2]s 3000\n", own, name, host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, Addr: net.JoinHostPort("127.0.0.1", own), args: []string{file, "--sentinel"}}
	t.Cleanup(s.Kill)
	s.Restart()
	c := goredis.NewSentinelClient(&goredis.Options{Addr: s.Addr})
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		if replicas, err := c.Replicas(ctx, name).Result(); err == nil && len(replicas) > 0 {
			return s.Addr
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the Sentinel finds no replica of %s", name)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
