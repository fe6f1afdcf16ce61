// Package aws asks AWS who changed something, brings messages to SNS, and keeps
// artifacts in S3. It is the only package that knows the AWS SDK.
//
// Credentials come from where the SDK finds them: the environment, the shared
// files, or the role of the machine, the task or the pod.
package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"holdfast/watch"
)

// attempts is how often the SDK makes a request that is throttled or fails on its
// way, the first time included.
const attempts = 3

// AccessError is what AWS does not let us do.
type AccessError struct {
	Action string // "cloudtrail:LookupEvents"; what has to be allowed
	Err    error
	advice string
}

// Error says what was refused.
func (e *AccessError) Error() string {
	return fmt.Sprintf("AWS refuses %s: %v", e.Action, e.Err)
}

// Unwrap returns the cause.
func (e *AccessError) Unwrap() error { return e.Err }

// Hint says what to change.
func (e *AccessError) Hint() string { return e.advice }

// access is whom we are, and where.
type access struct {
	region, roleARN, externalID, endpoint string
	client                                *http.Client
}

// load finds credentials' sources; it makes no request.
func (a access) load(ctx context.Context) (sdk.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithRetryer(func() sdk.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts = attempts
				if a.endpoint != "" {
					o.MaxBackoff = 10 * time.Millisecond // a test's server needs no rest
				}
			})
		}),
		config.WithAppID("holdfast"),
	}
	if a.region != "" {
		options = append(options, config.WithRegion(a.region))
	}
	if a.client != nil {
		options = append(options, config.WithHTTPClient(a.client))
	}
	if a.endpoint != "" {
		options = append(options, config.WithBaseEndpoint(a.endpoint))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return sdk.Config{}, fmt.Errorf("read the AWS configuration: %w", err)
	}
	if c.Region == "" {
		return sdk.Config{}, &AccessError{Action: "any request", Err: errors.New("no region is configured"), advice: "name a region in the configuration, or in AWS_REGION"}
	}
	if a.roleARN != "" {
		c.Credentials = sdk.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), a.roleARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "holdfast"
			if a.externalID != "" {
				o.ExternalID = &a.externalID
			}
		}))
	}
	return c, nil
}

// explain makes what the SDK says readable, and an *AccessError of what only a
// person can change.
func (a access) explain(ctx context.Context, action string, err error) error {
	// The SDK says "request canceled" where a deadline has passed.
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", action, ctx.Err())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", action, context.DeadlineExceeded)
	}
	text := errors.New(watch.Clean(err.Error(), 600))
	var api smithy.APIError
	code := ""
	if errors.As(err, &api) {
		code = api.ErrorCode()
		text = errors.New(watch.Clean(code+": "+api.ErrorMessage(), 600))
	}
	var operation *smithy.OperationError
	assuming := errors.As(err, &operation) && operation.Operation() == "AssumeRole" || strings.Contains(err.Error(), "STS: AssumeRole")
	switch {
	case assuming && strings.HasPrefix(code, "AccessDenied"):
		return &AccessError{"sts:AssumeRole", text, "let Holdfast's own identity assume " + a.roleARN + ", in that role's trust policy too, with the same external id"}
	case strings.HasPrefix(code, "AccessDenied"), code == "AuthorizationError", code == "UnauthorizedOperation", code == "NotAuthorized":
		return &AccessError{action, text, "give Holdfast's identity, or the role that it assumes, the permission " + action}
	case code == "ExpiredToken", code == "ExpiredTokenException", code == "InvalidClientTokenId", code == "UnrecognizedClientException", code == "SignatureDoesNotMatch", code == "InvalidSignatureException", code == "IncompleteSignature":
		return &AccessError{action, text, "the credentials are not valid any more, or the clock is wrong"}
	case code == "" && (strings.Contains(err.Error(), "get identity") || strings.Contains(err.Error(), "refresh cached credentials")):
		return &AccessError{action, text, "give Holdfast AWS credentials: a role of its machine, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"}
	}
	return fmt.Errorf("%s: %w", action, text)
}
