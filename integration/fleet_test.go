//go:build linux

package integration

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/store"
	"holdfast/store/redis"
	"holdfast/store/redis/redistest"
	"holdfast/vcs/gitea/giteatest"
)

// fleetKey is the key that all nodes of a fleet have.
var fleetKey = strings.Repeat("k", 32)

// fleet is a world in which several processes share a Redis: each has a data
// directory of its own, as a machine has, and webhooks come through a balancer.
type fleet struct {
	*world
	redis *redistest.Server
	nodes []*node
	// reconcile, where set, is how often the repository is looked at.
	reconcile string
	once      sync.Once
	handle    *store.Store // see shared

	proxy *http.Server
	turn  atomic.Int64
}

// node is a process of a fleet.
type node struct {
	*fleet
	name, role string // "serve" or "worker"
	args       []string
	binary     string
	dir, addr  string
	store      string // where it is not the fleet's Redis
	key        string // where it is not the fleet's; "-" is none
	noURL      bool   // the server file has no url
	extra      string // more of the server file
	log        *lockedBuffer

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan error
}

// onRedis has a test run only where there is a real Redis: make test says so.
func onRedis(t testing.TB) {
	t.Helper()
	if os.Getenv("HOLDFAST_TEST_REDIS") == "" {
		t.Skip("HOLDFAST_TEST_REDIS is not set; make test sets it")
	}
}

// newFleet makes a fleet without nodes, whose repository holds files.
func newFleet(t testing.TB, files map[string]string) *fleet {
	t.Helper()
	onRedis(t)
	f := &fleet{world: newWorldWith(t, giteatest.Config{}, files)}
	f.redis = redistest.Start(t)
	f.settings = "\nengine {\n  set = { TF_REATTACH_PROVIDERS = env(\"REATTACH\") }\n}\n"
	f.backend = func() *store.Store {
		t.Helper()
		st, err := openShared(f.redis.URL)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	f.balance()
	return f
}

// openShared opens a fleet's store.
func openShared(address string) (*store.Store, error) {
	c, err := redis.ParseURL(address)
	if err != nil {
		return nil, err
	}
	return redis.Open(context.Background(), c)
}

// shared returns the fleet's store, opened once: its calls fail while Redis is
// away.
func (f *fleet) shared() *store.Store {
	f.Helper()
	f.once.Do(func() {
		f.handle = f.open()
		f.Cleanup(func() { _ = f.handle.Close() })
	})
	return f.handle
}

// balance serves the fleet's address by those nodes that serve, in turn; one
// that does not answer is passed over.
func (f *fleet) balance() {
	f.proxy = &http.Server{Addr: strings.TrimPrefix(f.url, "http://"), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 4 {
			var up []*node
			for _, n := range f.nodes {
				if n.role == "serve" && n.ready() {
					up = append(up, n)
				}
			}
			if len(up) == 0 {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			n := up[int(f.turn.Add(1))%len(up)]
			httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: n.addr}).ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	})}
	go func() { _ = f.proxy.ListenAndServe() }()
	f.Cleanup(func() { _ = f.proxy.Close() })
}

// node adds a process, which is not started yet.
func (f *fleet) node(role string, args ...string) *node {
	f.Helper()
	n := &node{
		fleet: f, name: fmt.Sprintf("%s-%d", role, len(f.nodes)), role: role, args: args, binary: binaries.holdfast,
		addr: freeAddress(f), log: &lockedBuffer{},
	}
	n.dir = filepath.Join(f.dir, n.name)
	f.nodes = append(f.nodes, n)
	f.Cleanup(func() {
		n.stop()
		if f.Failed() {
			f.Logf("the log of %s:\n%s", n.name, n.log)
		}
	})
	return n
}

// start starts the process and waits until it is ready.
func (n *node) start() *node {
	n.Helper()
	n.launch()
	n.until(n.name+" is ready", func() bool {
		select {
		case err := <-n.exited:
			n.exited <- err
			n.Fatalf("%s ended: %v\n%s", n.name, err, n.log)
		default:
		}
		return n.ready()
	})
	return n
}

// launch starts the process.
func (n *node) launch() {
	n.Helper()
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		n.Fatal(err)
	}
	file := filepath.Join(n.dir, "server.hcl")
	text := ""
	if !n.noURL {
		text = fmt.Sprintf("url = %q\n", n.url)
	}
	text += fmt.Sprintf("listen = %q\nstore = %q\ndata_dir = %q\nstate_dir = %q\ngrace = \"2s\"\n\n",
		n.addr, cmp.Or(n.store, n.redis.URL), filepath.Join(n.dir, "data"), filepath.Join(n.world.dir, "state")) + n.blocks() + n.settings + n.extra
	if n.reconcile != "" {
		text = strings.Replace(text, n.repository()+"\" {}", n.repository()+"\" {\n  reconcile = \""+n.reconcile+"\"\n}", 1)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		n.Fatal(err)
	}
	cmd := exec.Command(n.binary, append([]string{n.role, "--config", file}, n.args...)...)
	cmd.Env = append(os.Environ(), "REATTACH="+n.cloud.reattach,
		"GITEA_TOKEN="+n.forge.AddUser("holdfast", true), "GITEA_WEBHOOK_SECRET="+n.forge.Secret)
	if key := cmp.Or(n.key, fleetKey); key != "-" {
		cmd.Env = append(cmd.Env, "HOLDFAST_KEY="+key)
	}
	cmd.Env = append(cmd.Env, n.env...)
	cmd.Stdout, cmd.Stderr = n.log, n.log
	if err := cmd.Start(); err != nil {
		n.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cmd, n.exited = cmd, exited
}

// ready asks the process whether it is.
func (n *node) ready() bool { return n.answers("/readyz") == http.StatusOK }

// answers is the status of a page of this process; 0 where it does not answer.
func (n *node) answers(path string) int {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get("http://" + n.addr + path)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// signal sends the process a signal, and says whether there was one to send it
// to.
func (n *node) signal(s syscall.Signal) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd != nil && n.cmd.Process.Signal(s) == nil
}

// kill is kill -9; its shims and engines go on.
func (n *node) kill() { n.end(syscall.SIGKILL) }

// stop ends the process as an operator would.
func (n *node) stop() { n.end(syscall.SIGTERM) }

func (n *node) end(how syscall.Signal) {
	if !n.signal(how) {
		return
	}
	n.signal(syscall.SIGCONT) // where it is stopped
	select {
	case <-n.exited:
	case <-time.After(patience):
		n.signal(syscall.SIGKILL)
		<-n.exited
		n.Errorf("%s did not end", n.name)
	}
	n.mu.Lock()
	n.cmd = nil
	n.mu.Unlock()
}

// pause stops the process, with its connections open: it is as if it was cut
// off. resume has it go on.
func (n *node) pause()  { n.signal(syscall.SIGSTOP) }
func (n *node) resume() { n.signal(syscall.SIGCONT) }

// id is what the node is called in runs.
func (n *node) id() string {
	n.Helper()
	name, err := os.ReadFile(filepath.Join(n.dir, "data", "node"))
	if err != nil {
		n.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

// TestFleet plans, applies and reports on several machines, and by the commands
// of an operator.
func TestFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"README.md": "empty"})
	f.node("serve", "--workers", "0").start()
	f.node("worker", "--workers", "2").start()
	f.node("worker", "--workers", "2", "--label", "prod").start()
	number := f.openReviewed(app() + server("one"))
	f.repo.Merge(number, "merge")
	f.made(number, "one")
}
