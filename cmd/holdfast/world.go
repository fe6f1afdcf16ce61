package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"holdfast/smallcloud"
	"holdfast/smallcloud/provider"
	"holdfast/vcs"
	"holdfast/vcs/gitea/giteatest"
)

// What the demo's repository holds.
const demoRepository = "demo/infrastructure"

const demoResources = 4

var demoWorkspaces = []string{"network", "app", "web"}

// demoFiles are the default branch before the story begins.
var demoFiles = map[string]string{
	"README.md": "The demo's infrastructure.\n",
	"holdfast.hcl": `discover {
  exclude = ["modules/**"]
}

defaults {
  drift {
    schedule = "@every 10s" # quick, for the demo
    correct  = "apply"
  }
}

workspace "network" {
  dir = "network"
}

workspace "app" {
  dir        = "app"
  depends_on = ["network"]
}

workspace "web" {
  dir = "web"
}
`,
	"network/main.tf":         demoProvider,
	"app/main.tf":             demoProvider,
	"web/main.tf":             demoProvider,
	"modules/servers/main.tf": demoModule,
}

const demoProvider = `terraform {
  required_providers {
    smallcloud = { source = "holdfast/smallcloud" }
  }
}

provider "smallcloud" {}
`

const demoModule = `terraform {
  required_providers {
    smallcloud = { source = "holdfast/smallcloud" }
  }
}

variable "names" {
  type = set(string)
}

resource "smallcloud_server" "this" {
  for_each = var.names
  name     = each.key
  size     = "small"
}
`

// demoChange is what the pull request changes.
var demoChange = map[string]string{
	"network/network.tf": `resource "smallcloud_network" "main" {
  name = "main"
  cidr = "10.0.0.0/16"
}
`,
	"app/server.tf": `resource "smallcloud_server" "app" {
  name = "app-1"
  size = "medium"
}
`,
	"web/servers.tf": `module "servers" {
  source = "../modules/servers"
  names  = ["web-1", "web-2"]
}
`,
}

// world is everything that the demo needs, on this machine.
type world struct {
	forge    *giteatest.Server
	repo     *giteatest.Repository
	token    string
	cloud    *smallcloud.Cloud
	cloudURL string
	srv      *server
	logs     syncBuffer
	failed   chan error // what ended the server
	cleanups []func()
}

// newWorld starts the cloud, the forge and the server.
func newWorld(ctx context.Context, p *progress) (w *world, err error) {
	w = &world{failed: make(chan error, 1)}
	defer func() {
		// What the forge cannot do without, it panics with: see Fatalf.
		if r := recover(); r != nil {
			fatal, ok := r.(worldError)
			if !ok {
				panic(r)
			}
			err = fatal
		}
		if err != nil {
			w.Close()
		}
	}()
	dir := w.TempDir()
	reattach, err := w.startCloud(ctx)
	if err != nil {
		return nil, err
	}
	w.startForge()
	return w, w.startServer(ctx, dir, reattach, p)
}

// startCloud serves the cloud and its provider in this process.
func (w *world) startCloud(ctx context.Context) (reattach string, err error) {
	if w.cloud, err = smallcloud.New(smallcloud.Options{}); err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("start the small cloud: %w", err)
	}
	w.cloudURL = "http://" + listener.Addr().String()
	web := &http.Server{Handler: w.cloud}
	go func() { _ = web.Serve(listener) }()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	reattach, stopped, err := provider.Serve(ctx, w.cloudURL)
	w.Cleanup(func() {
		cancel()
		if stopped != nil {
			<-stopped
		}
		_ = web.Close()
		_ = w.cloud.Close()
	})
	return reattach, err
}

// startForge serves the repository.
func (w *world) startForge() {
	w.forge = giteatest.New(w, giteatest.Config{})
	w.repo = w.forge.CreateRepository("demo", "infrastructure", demoFiles)
	w.token = w.forge.AddUser("holdfast", true)
	w.repo.Grant("ada", "write")
}

// startServer serves Holdfast, set up as its users would.
func (w *world) startServer(ctx context.Context, dir, reattach string, p *progress) error {
	repo, err := vcs.ParseRepository(w.forge.Name + "/" + demoRepository)
	if err != nil {
		return err
	}
	settings := Settings{
		Listen: "127.0.0.1:0", DataDir: filepath.Join(dir, "data"), Workers: 4, PerRepository: 4,
		Hosts:        []HostSettings{{Type: "gitea", Name: w.forge.Name, URL: w.forge.URL, Token: w.token, WebhookSecret: w.forge.Secret}},
		Repositories: []RepositorySettings{{Repository: repo}},
		Engine:       EngineSettings{Set: map[string]string{provider.ReattachVariable: reattach}},
	}
	logger := slog.New(slog.NewTextHandler(&w.logs, nil))
	w.srv, err = newServer(ctx, settings, serverOptions{Logger: logger, EngineDir: demoEngineDir(dir), Progress: func(line string) { p.Line("%s", line) }})
	if err != nil {
		return err
	}
	w.repo.SetHook(w.srv.settings.URL + "/webhooks/gitea")
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.srv.Run(running); err != nil {
			w.failed <- fmt.Errorf("the server ended: %w", err)
		}
	}()
	w.Cleanup(func() {
		stop()
		<-done
		w.srv.Close()
	})
	return nil
}

// demoEngineDir is the user's cache, so that an installed Terraform outlives
// the demo; where that cannot be written, a directory in dir.
func demoEngineDir(dir string) string {
	if cache, err := os.UserCacheDir(); err == nil {
		if shared := filepath.Join(cache, "holdfast"); makeDataDir(shared) == nil {
			return shared
		}
	}
	return filepath.Join(dir, "engines")
}

// Close ends everything, the latest first.
func (w *world) Close() {
	for len(w.cleanups) > 0 {
		last := len(w.cleanups) - 1
		f := w.cleanups[last]
		w.cleanups = w.cleanups[:last]
		f()
	}
}

// worldError is what Fatalf was called with.
type worldError struct{ error }

// Helper, Fatalf, TempDir and Cleanup make a world what the forge wants to
// live in.
func (w *world) Helper() {}

// Fatalf panics with an error that newWorld returns.
func (w *world) Fatalf(format string, args ...any) { panic(worldError{fmt.Errorf(format, args...)}) }

// TempDir makes a directory that goes with the world.
func (w *world) TempDir() string {
	dir, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		panic(worldError{errors.Join(errors.New("make directory for the demo"), err)})
	}
	w.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Cleanup has f called by Close.
func (w *world) Cleanup(f func()) { w.cleanups = append(w.cleanups, f) }

var _ giteatest.TB = (*world)(nil)

// syncBuffer is a buffer that several goroutines write into.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
