// Package provider is the Terraform provider of the small cloud. Serve runs it
// inside the process that calls it, for Terraform to attach to, so that a demo
// or a test needs no registry and no installation.
package provider

import (
	"context"
	"os"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// Source is what a configuration's required_providers block calls the
// provider, Address its full name.
const (
	Source  = "holdfast/smallcloud"
	Address = "registry.terraform.io/" + Source
)

// EndpointVariable is the environment variable with the cloud's URL, for
// configurations that do not state it.
const EndpointVariable = "SMALLCLOUD_ENDPOINT"

// New returns the provider. Configurations that state no endpoint use the one
// given here, else EndpointVariable.
func New(endpoint string) provider.Provider { return &theProvider{endpoint: endpoint} }

type theProvider struct{ endpoint string }

var _ provider.Provider = (*theProvider)(nil)

func (p *theProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "smallcloud"
}

func (p *theProvider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "The small cloud, a service for trying things out.",
		Attributes: map[string]schema.Attribute{
			"endpoint": schema.StringAttribute{
				Description: "The cloud's URL. Defaults to what the provider was started with, else to " + EndpointVariable + ".",
				Optional:    true,
			},
		},
	}
}

func (p *theProvider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var config struct {
		Endpoint types.String `tfsdk:"endpoint"`
	}
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	endpoint := config.Endpoint.ValueString()
	if endpoint == "" {
		endpoint = p.endpoint
	}
	if endpoint == "" {
		endpoint = os.Getenv(EndpointVariable)
	}
	c, err := newClient(endpoint)
	if err != nil {
		resp.Diagnostics.AddAttributeError(path.Root("endpoint"), "The endpoint cannot be used",
			err.Error()+". Set endpoint in the provider block, or "+EndpointVariable+", to the cloud's URL.")
		return
	}
	resp.ResourceData, resp.DataSourceData = c, c
}

func (p *theProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		newServer,
		newNetwork,
	}
}

func (p *theProvider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{func() datasource.DataSource { return &image{} }}
}
