package aws

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"

	"holdfast/watch"
)

const (
	maxText  = 300       // bytes of a string of an answer
	maxEvent = 256 << 10 // bytes of an event; CloudTrail's own limit
)

// event is what is used of a record. Much of it was written by whoever made the
// call: names, the agent, and through proxies the address.
type event struct {
	ReadOnly        *bool  `json:"readOnly"`
	ErrorCode       string `json:"errorCode"`
	SourceIPAddress string `json:"sourceIPAddress"`
	UserAgent       string `json:"userAgent"`
	FromConsole     string `json:"sessionCredentialFromConsole"`
	UserIdentity    struct {
		Type           string `json:"type"`
		ARN            string `json:"arn"`
		AccountID      string `json:"accountId"`
		PrincipalID    string `json:"principalId"`
		UserName       string `json:"userName"`
		InvokedBy      string `json:"invokedBy"`
		SessionContext struct {
			SessionIssuer struct {
				UserName string `json:"userName"`
			} `json:"sessionIssuer"`
		} `json:"sessionContext"`
	} `json:"userIdentity"`
}

// call is a write that somebody made, as an answer without its resource.
type call struct {
	id, name string // the event's id; "AuthorizeSecurityGroupIngress"
	answer   watch.Answer
}

// read makes a call of a record. ok is false for reads, and for calls that were
// refused or failed: those changed nothing.
func read(e types.Event, region string) (c call, ok bool) {
	var in event
	if raw := sdk.ToString(e.CloudTrailEvent); raw != "" && len(raw) <= maxEvent {
		if json.Unmarshal([]byte(raw), &in) != nil {
			// What is outside of the record is enough to name somebody.
			in = event{}
		}
	}
	write := sdk.ToString(e.ReadOnly) == "false" || e.ReadOnly == nil && in.ReadOnly != nil && !*in.ReadOnly
	name, at := sdk.ToString(e.EventName), sdk.ToTime(e.EventTime)
	if !write || in.ErrorCode != "" || name == "" || at.Year() < 2000 || at.Year() > 9999 {
		return call{}, false
	}
	service, _, _ := strings.Cut(sdk.ToString(e.EventSource), ".amazonaws.com")
	return call{
		id:   sdk.ToString(e.EventId),
		name: name,
		answer: watch.Answer{
			Actor:  watch.Clean(actor(in, sdk.ToString(e.Username)), maxText),
			Call:   watch.Clean(service+":"+name, maxText),
			At:     at.UTC().Truncate(time.Second),
			Source: watch.Clean(source(in), maxText),
			URL:    console(sdk.ToString(e.EventId), region),
		},
	}, true
}

// actor names who made a call: a user, "role/session", "root", or a service.
func actor(e event, username string) string {
	u := e.UserIdentity
	_, name, _ := strings.Cut(u.ARN, "/") // arn:aws:sts::1:assumed-role/ROLE/SESSION
	switch u.Type {
	case "Root":
		return "root"
	case "AssumedRole":
		if name != "" {
			return name
		}
		if _, session, ok := strings.Cut(u.PrincipalID, ":"); ok && u.SessionContext.SessionIssuer.UserName != "" {
			return u.SessionContext.SessionIssuer.UserName + "/" + session
		}
	case "IAMUser":
		if u.UserName == "" && name != "" {
			return name[strings.LastIndex(name, "/")+1:] // its path is no part of its name
		}
	case "FederatedUser":
		if name != "" {
			return name
		}
	case "AWSAccount":
		if u.AccountID != "" {
			return "account " + u.AccountID
		}
	}
	for _, s := range []string{u.UserName, u.InvokedBy, username, name, u.PrincipalID} {
		if s != "" {
			return s
		}
	}
	return "unknown"
}

// agents are the tools that people know by name. Others keep the address only: an
// agent's name is chosen by its caller.
var agents = []struct{ prefix, name string }{
	{"aws-cli/", "AWS CLI"}, {"Boto3/", "Boto3"}, {"[Boto3/", "Boto3"}, {"APN/1.0 HashiCorp/1.0 Terraform/", "Terraform"},
	{"APN/1.0 HashiCorp/1.0 OpenTofu/", "OpenTofu"}, {"[APN/1.0 HashiCorp/1.0 Terraform/", "Terraform"},
	{"APN/1.0 Pulumi/", "Pulumi"}, {"aws-sdk-go-v2/", "AWS SDK for Go"}, {"aws-sdk-js/", "AWS SDK for JavaScript"},
}

// source is where a call was made: "console (203.0.113.7)", "Terraform
// (203.0.113.7)", an address, or a service of AWS.
func source(e event) string {
	tool := ""
	agent := e.UserAgent
	switch {
	case e.FromConsole == "true", strings.Contains(agent, "console.amazonaws.com"), strings.Contains(agent, "signin.amazonaws.com"), strings.Contains(agent, "S3Console/"), strings.Contains(agent, "console.aws.amazon.com"):
		tool = "console"
	default:
		for _, a := range agents {
			if strings.HasPrefix(agent, a.prefix) {
				tool = a.name
				break
			}
		}
	}
	switch {
	case tool == "":
		return e.SourceIPAddress
	case e.SourceIPAddress == "" || strings.HasSuffix(e.SourceIPAddress, ".amazonaws.com"):
		return tool
	}
	return tool + " (" + e.SourceIPAddress + ")"
}

var eventID = regexp.MustCompile(`^[0-9a-fA-F-]{20,40}$`)

// console is the event's page, where its id is one.
func console(id, region string) string {
	if !eventID.MatchString(id) {
		return ""
	}
	host := region + ".console.aws.amazon.com"
	switch {
	case strings.HasPrefix(region, "us-gov-"):
		host = "console.amazonaws-us-gov.com"
	case strings.HasPrefix(region, "cn-"):
		host = "console.amazonaws.cn"
	}
	return "https://" + host + "/cloudtrailv2/home?region=" + region + "#/events/" + id
}

// What begins the names of calls that make something be there, or not be there.
var (
	deletes = []string{"Delete", "Terminate", "Remove", "Revoke", "Detach", "Disassociate", "Deregister", "Release", "Destroy", "Cancel", "Schedule", "Unsubscribe", "Untag", "Disable", "Reset", "Batch", "Change", "Purge"}
	creates = []string{"Create", "Run", "Put", "Add", "Authorize", "Attach", "Associate", "Register", "Allocate", "Request", "Import", "Copy", "Restore", "Subscribe", "Tag", "Enable", "Set", "Start", "Publish", "Provision", "Batch", "Change", "Upload"}
)

// fits tells whether a call can have made a change. Where something only changed,
// every write can: an ingress that was revoked, a tag that was deleted.
func fits(change, name string) bool {
	begins := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	switch change {
	case "deleted":
		return slices.ContainsFunc(deletes, begins)
	case "created":
		return slices.ContainsFunc(creates, begins)
	}
	return true
}
