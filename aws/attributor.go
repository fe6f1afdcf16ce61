package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"golang.org/x/time/rate"

	"holdfast/watch"
)

const (
	lookUp = "cloudtrail:LookupEvents"

	maxNames    = 5  // that are looked up of a resource
	maxRequests = 50 // for a question
	maxPages    = 4  // of 50 events, for a name
	maxAnswers  = 3  // for a resource

	history = 90 * 24 * time.Hour // that CloudTrail keeps
)

// AttributorConfig says where to look.
type AttributorConfig struct {
	// Regions to look in. Defaults to the region of AWS's own configuration. What
	// is global in AWS is looked for where AWS records it, whatever stands here.
	Regions []string
	// RoleARN is a role to assume, and ExternalID goes with it. Default to none.
	RoleARN, ExternalID string
	// Interval is the time between two requests in a region. Defaults to 550 ms:
	// CloudTrail allows two a second for an account.
	Interval time.Duration
	// Endpoint is for tests; retries hardly wait then. Defaults to AWS's.
	Endpoint string
	// HTTPClient defaults to the SDK's.
	HTTPClient *http.Client
}

// Attributor asks CloudTrail's event history, which every account has, and which
// goes back for 90 days. An event is there some minutes after its call; so who
// changed something may be known only at the next check.
type Attributor struct {
	access   access
	config   sdk.Config
	regions  []string
	interval time.Duration

	mu      sync.Mutex
	clients map[string]*client // by region
}

// client has a region's turn with it.
type client struct {
	*cloudtrail.Client
	turn *rate.Limiter
}

var _ watch.Attributor = (*Attributor)(nil)

// NewAttributor reads AWS's configuration and makes no request.
func NewAttributor(ctx context.Context, c AttributorConfig) (*Attributor, error) {
	a := &Attributor{
		access:   access{"", c.RoleARN, c.ExternalID, c.Endpoint, c.HTTPClient},
		regions:  slices.Clone(c.Regions),
		interval: cmp.Or(c.Interval, 550*time.Millisecond),
		clients:  map[string]*client{},
	}
	if len(a.regions) > 0 {
		a.access.region = a.regions[0]
	}
	var err error
	if a.config, err = a.access.load(ctx); err != nil {
		return nil, err
	}
	if len(a.regions) == 0 {
		a.regions = []string{a.config.Region}
	}
	return a, nil
}

// lookup is one name in one region.
type lookup struct {
	region, name string
	resource     int // its index in the question
}

// Attribute looks up names, the most telling of each resource first, until 50
// requests are made. Returns the newest three calls for each resource that can
// have made its change. Where a region does not answer, what was found in the
// others is returned with the error; an *AccessError says what is not allowed.
// Takes half a second for each request: give ctx a deadline.
func (a *Attributor) Attribute(ctx context.Context, q watch.Question) ([]watch.Answer, error) {
	if q.Until.IsZero() {
		q.Until = time.Now()
	}
	if oldest := q.Until.Add(-history); q.Since.Before(oldest) {
		q.Since = oldest
	}
	if !q.Since.Before(q.Until) {
		return nil, nil
	}
	found := make([]map[string]call, len(q.Resources))
	failed := map[string]error{} // by region: who is refused once is refused again
	// A bucket and its policy go by the same name: it is looked up once.
	known := map[[2]string][]call{}
	requests := 0
	for _, l := range a.plan(q) {
		at := [2]string{l.region, l.name}
		if _, ok := known[at]; !ok {
			if failed[l.region] != nil || requests >= maxRequests || ctx.Err() != nil {
				continue
			}
			calls, n, err := a.look(ctx, l, q, maxRequests-requests)
			requests += n
			known[at] = calls
			if err != nil {
				failed[l.region] = fmt.Errorf("region %s: %w", l.region, a.access.explain(ctx, lookUp, err))
			}
		}
		r := q.Resources[l.resource]
		for _, c := range known[at] {
			// CloudTrail takes its times to the second.
			if !fits(r.Change, c.name) || c.answer.At.Before(q.Since.Truncate(time.Second)) || c.answer.At.After(q.Until) {
				continue
			}
			c.answer.Address = r.Address
			if found[l.resource] == nil {
				found[l.resource] = map[string]call{}
			}
			found[l.resource][cmp.Or(c.id, c.answer.Call+c.answer.At.String())] = c
		}
	}
	var out []watch.Answer
	for _, calls := range found {
		out = append(out, newest(calls)...)
	}
	var errs []error
	for _, region := range slices.Sorted(maps.Keys(failed)) {
		errs = append(errs, failed[region])
	}
	if len(errs) == 0 && ctx.Err() != nil {
		errs = append(errs, fmt.Errorf("%s: %w", lookUp, ctx.Err()))
	}
	return out, errors.Join(errs...)
}

// newest orders calls, the latest first, and keeps three.
func newest(calls map[string]call) []watch.Answer {
	var all []call
	for _, c := range calls {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b call) int {
		return cmp.Or(b.answer.At.Compare(a.answer.At), strings.Compare(a.id, b.id))
	})
	var out []watch.Answer
	for _, c := range all[:min(len(all), maxAnswers)] {
		out = append(out, c.answer)
	}
	return out
}

// plan lists what to look up: the first names of all resources, then the second
// ones, so that many resources with many names all get their share.
func (a *Attributor) plan(q watch.Question) []lookup {
	var out []lookup
	seen := map[lookup]bool{}
	for i := range maxNames {
		for n, r := range q.Resources {
			names := names(r)
			if !ours(r.Provider) || i >= len(names) {
				continue
			}
			for _, region := range a.where(r) {
				if l := (lookup{region, names[i], n}); !seen[l] {
					seen[l] = true
					out = append(out, l)
				}
			}
		}
	}
	return out
}

// ours tells whether a provider speaks to AWS.
func ours(provider string) bool {
	return strings.HasSuffix(provider, "/hashicorp/aws") || strings.HasSuffix(provider, "/hashicorp/awscc") || provider == "hashicorp/aws" || provider == "hashicorp/awscc"
}

// names lists what CloudTrail may call a resource, its id first.
func names(r watch.Resource) []string {
	var out []string
	for _, name := range append([]string{r.ID}, r.Names...) {
		// CloudTrail takes 2,000 characters; those of a name are far less.
		if name = strings.TrimSpace(name); name != "" && len(name) <= 1000 && len(out) < maxNames && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// where lists the regions in which a resource's calls are recorded.
func (a *Attributor) where(r watch.Resource) []string {
	if global(r.Type) {
		switch region := a.regions[0]; {
		case strings.HasPrefix(region, "us-gov-"):
			return []string{"us-gov-west-1"}
		case strings.HasPrefix(region, "cn-"):
			return []string{"cn-north-1", "cn-northwest-1"}
		}
		return []string{"us-east-1"}
	}
	// An ARN says where it is: the other regions need not be asked.
	for _, name := range append([]string{r.ID}, r.Names...) {
		if parsed, err := arn.Parse(name); err == nil && slices.Contains(a.regions, parsed.Region) {
			return []string{parsed.Region}
		}
	}
	return a.regions
}

// global are the services without a region, whose calls AWS records in one.
func global(kind string) bool {
	if strings.HasPrefix(kind, "aws_route53_resolver_") {
		return false
	}
	return slices.ContainsFunc([]string{"aws_iam_", "aws_route53_", "aws_cloudfront_", "awscc_iam_", "awscc_route53_", "awscc_cloudfront_"}, func(prefix string) bool {
		return strings.HasPrefix(kind, prefix)
	})
}

// look makes n requests: CloudTrail takes one attribute at a time, so reads are
// sorted out here. What was found before an error is returned with it.
func (a *Attributor) look(ctx context.Context, l lookup, q watch.Question, most int) (calls []call, n int, err error) {
	c := a.client(l.region)
	in := &cloudtrail.LookupEventsInput{
		StartTime:        &q.Since,
		EndTime:          &q.Until,
		LookupAttributes: []types.LookupAttribute{{AttributeKey: types.LookupAttributeKeyResourceName, AttributeValue: &l.name}},
	}
	for n < min(maxPages, most) {
		if err := c.turn.Wait(ctx); err != nil {
			// It also fails at once where the deadline is before the turn.
			return calls, n, cmp.Or(ctx.Err(), context.DeadlineExceeded)
		}
		out, err := c.LookupEvents(ctx, in)
		n++
		if err != nil {
			return calls, n, err
		}
		for _, e := range out.Events {
			if call, ok := read(e, l.region); ok {
				calls = append(calls, call)
			}
		}
		if sdk.ToString(out.NextToken) == "" {
			break
		}
		in.NextToken = out.NextToken
	}
	return calls, n, nil
}

func (a *Attributor) client(region string) *client {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.clients[region] == nil {
		a.clients[region] = &client{
			cloudtrail.NewFromConfig(a.config, func(o *cloudtrail.Options) { o.Region = region }),
			rate.NewLimiter(rate.Every(a.interval), 1),
		}
	}
	return a.clients[region]
}
