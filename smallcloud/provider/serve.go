package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// ReattachVariable is the environment variable in which Terraform looks for
// running providers.
const ReattachVariable = "TF_REATTACH_PROVIDERS"

// logVariable sets the level of the plugin SDK's log.
const logVariable = "TF_LOG_SDK"

// Serve runs the provider in this process until ctx ends, and returns what
// Terraform wants to find in ReattachVariable. Endpoint is the cloud's URL for
// configurations that state none. Stopped is closed when, after the end of ctx,
// the last connection is gone and the socket is removed.
//
// Any number of Terraform processes may use it at a time, each as if it had
// started a provider of its own. go-plugin's own server does not give that: it
// has one provider for all connections, so that one Terraform's configuration
// would replace another's, and an interrupt of one would cancel what all of
// them are doing. Here each connection has its own.
func Serve(ctx context.Context, endpoint string) (reattach string, stopped <-chan struct{}, err error) {
	// The plugin SDK logs every call to the standard error unless told not to,
	// counting on Terraform to filter it. Here nobody does. It takes no other
	// setting than its variable.
	if _, set := os.LookupEnv(logVariable); !set {
		if err := os.Setenv(logVariable, "off"); err != nil {
			return "", nil, fmt.Errorf("silence the plugin SDK: %w", err)
		}
	}
	listener, cleanup, err := listen()
	if err != nil {
		return "", nil, fmt.Errorf("listen for Terraform: %w", err)
	}
	reattach, err = describe(listener.Addr())
	if err != nil {
		listener.Close()
		cleanup()
		return "", nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cleanup()
		stop := context.AfterFunc(ctx, func() { listener.Close() })
		defer stop()
		var connections sync.WaitGroup
		defer connections.Wait()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { serveConn(ctx, conn, endpoint) })
		}
	}()
	return reattach, done, nil
}

// listen opens a socket that only this user can reach, or, where the
// temporary directory's path is too long for one, a port on loopback.
func listen() (_ net.Listener, cleanup func(), _ error) {
	dir, err := os.MkdirTemp("", "smallcloud")
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("unix", filepath.Join(dir, "provider.sock"))
	if err == nil {
		return l, func() { os.RemoveAll(dir) }, nil
	}
	os.RemoveAll(dir)
	l, err = net.Listen("tcp", "127.0.0.1:0")
	return l, func() {}, err
}

// describe writes the provider in the format of ReattachVariable. "Test" keeps
// Terraform from ending the process when it is done.
func describe(addr net.Addr) (string, error) {
	type address struct{ Network, String string }
	type attachment struct {
		Protocol        string
		ProtocolVersion int
		Pid             int
		Test            bool
		Addr            address
	}
	text, err := json.Marshal(map[string]attachment{Address: {
		Protocol:        string(plugin.ProtocolGRPC),
		ProtocolVersion: 6,
		Pid:             os.Getpid(),
		Test:            true,
		Addr:            address{Network: addr.Network(), String: addr.String()},
	}})
	if err != nil {
		return "", fmt.Errorf("describe provider: %w", err)
	}
	return string(text), nil
}

// serveConn serves one connection with a provider of its own.
func serveConn(ctx context.Context, conn net.Conn, endpoint string) {
	s := grpc.NewServer()
	// Terraform asks for this service's health before anything else.
	healthy := health.NewServer()
	healthy.SetServingStatus(plugin.GRPCServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(s, healthy)
	p := &tf6server.GRPCProviderPlugin{
		Name: Address,
		GRPCProvider: func() tfprotov6.ProviderServer {
			return providerserver.NewProtocol6(New(endpoint))()
		},
	}
	if err := p.GRPCServer(nil, s); err != nil {
		conn.Close()
		return
	}
	// Stop cancels calls that are under way, and Serve returns then.
	defer context.AfterFunc(ctx, s.Stop)()
	l := newOneListener(conn)
	defer s.Stop()
	s.Serve(l)
}

// oneListener is a listener that has one connection to give and ends with it.
type oneListener struct {
	addr    net.Addr
	waiting chan net.Conn
	closed  chan struct{}
	close   func()
}

func newOneListener(conn net.Conn) *oneListener {
	l := &oneListener{addr: conn.LocalAddr(), waiting: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	l.waiting <- &closingConn{Conn: conn, closed: l.close}
	return l
}

func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.waiting:
		return conn, nil
	default:
	}
	select {
	case conn := <-l.waiting:
		return conn, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *oneListener) Close() error {
	l.close()
	return nil
}

func (l *oneListener) Addr() net.Addr { return l.addr }

// closingConn tells its listener when it is closed.
type closingConn struct {
	net.Conn
	closed func()
}

func (c *closingConn) Close() error {
	defer c.closed()
	err := c.Conn.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
