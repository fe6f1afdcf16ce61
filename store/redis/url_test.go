package redis_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/store/redis"
)

func TestParseURL(t *testing.T) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	for address, want := range map[string]redis.Config{
		"redis://db":                                   {Addrs: []string{"db:6379"}},
		"redis://db/":                                  {Addrs: []string{"db:6379"}},
		"redis://db:6380/2":                            {Addrs: []string{"db:6380"}, DB: 2},
		"redis://[::1]:6380":                           {Addrs: []string{"[::1]:6380"}},
		"redis://[::1]":                                {Addrs: []string{"[::1]:6379"}},
		"redis://me:p%40ss%2F@db":                      {Addrs: []string{"db:6379"}, Username: "me", Password: "p@ss/"},
		"rediss://:secret@db?prefix=team-a":            {Addrs: []string{"db:6379"}, Password: "secret", TLS: secure, Prefix: "team-a"},
		"valkey://db?wait_replicas=1":                  {Addrs: []string{"db:6379"}, WaitReplicas: 1},
		"valkeys://db":                                 {Addrs: []string{"db:6379"}, TLS: secure},
		"redis+cluster://a,b:7000":                     {Addrs: []string{"a:6379", "b:7000"}, Cluster: true},
		"rediss+cluster://u:secret@a":                  {Addrs: []string{"a:6379"}, Username: "u", Password: "secret", Cluster: true, TLS: secure},
		"redis+sentinel://:secret@a,b:7000/mymaster/3": {Addrs: []string{"a:26379", "b:7000"}, Password: "secret", Master: "mymaster", DB: 3},
		"valkeys+sentinel://a/m?sentinel_username=u&sentinel_password=q": {
			Addrs: []string{"a:26379"}, Master: "m", SentinelUsername: "u", SentinelPassword: "q", TLS: secure},
		"unix:///run/redis.sock":               {Addrs: []string{"/run/redis.sock"}},
		"unix://u:secret@/run/redis.sock?db=4": {Addrs: []string{"/run/redis.sock"}, Username: "u", Password: "secret", DB: 4},
		"unix:///run/redis.sock?prefix=ci":     {Addrs: []string{"/run/redis.sock"}, Prefix: "ci"},
	} {
		got, err := redis.ParseURL(address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(tls.Config{}), cmpopts.IgnoreFields(redis.Config{}, "Observe", "Now")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", address, diff)
		}
		if got.Password != "" && strings.Contains(got.String(), got.Password) {
			t.Errorf("%s is shown with its password", address)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for address, want := range map[string][2]string{ // what is wrong, and the form that is named
		"":                              {"scheme", "redis://"},
		"db:6379":                       {"scheme", "redis://"},
		"http://db":                     {`scheme "http"`, "redis://"},
		"redis+ring://db":               {`scheme "redis+ring"`, "redis://"},
		"unix+cluster:///run/sock":      {"scheme", "redis+cluster://"},
		"redis://":                      {"no host", "redis://"},
		"redis://a,b":                   {"several hosts", "redis://"},
		"redis://db:70000":              {"port", "redis://"},
		"redis://db/first":              {`"first"`, "redis://"},
		"redis://db/-1":                 {`"-1"`, "redis://"},
		"redis+cluster://a/1":           {"no database 1", "redis+cluster://"},
		"redis+sentinel://a":            {"master", "redis+sentinel://"},
		"redis://db?prefix=A":           {`"A"`, "redis://"},
		"redis://db?prefixes=a":         {`"prefixes"`, "redis://"},
		"redis://db?wait_replicas=some": {`"some"`, "redis://"},
		"redis://db?wait_replicas=-1":   {"-1", "redis://"},
		"redis://db?sentinel_password=": {"sentinel_password", "redis://"},
		"unix://":                       {"socket", "unix://"},
		"unix://run/redis.sock":         {"socket", "unix://"},
		"redis://u:hunter2/x@db":        {"percent-encoded", "redis://"},
		"redis://u:hunter2#x@db":        {"percent-encoded", "redis://"},
		"redis://u:hunter2%@db":         {"percent-encoded", "redis://"},
	} {
		_, err := redis.ParseURL(address)
		if err == nil || !strings.Contains(err.Error(), want[0]) || !strings.Contains(hint(err), want[1]) {
			t.Errorf("%q: got %v (%s), want %q", address, err, hint(err), want)
			continue
		}
		if strings.Contains(err.Error()+hint(err), "hunter2") {
			t.Errorf("%q: the password is in the error: %v", address, err)
		}
	}
}
