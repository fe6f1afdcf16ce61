package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// image is the data source smallcloud_image.
type image struct{ client *client }

var _ datasource.DataSourceWithConfigure = (*image)(nil)

type imageModel struct {
	ID    types.String `tfsdk:"id"`
	Name  types.String `tfsdk:"name"`
	Delay types.String `tfsdk:"delay"`
}

func (i *image) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_image"
}

func (i *image) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "An image that servers start from. Every name has one.",
		Attributes: map[string]schema.Attribute{
			"id":    schema.StringAttribute{Description: "The cloud's name for the image.", Computed: true},
			"name":  schema.StringAttribute{Description: "The image's name.", Required: true},
			"delay": schema.StringAttribute{Description: "How long the cloud takes to answer, such as \"3s\"; it makes a plan slow.", Optional: true},
		},
	}
}

func (i *image) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	i.client = configured(req.ProviderData, &resp.Diagnostics)
}

func (i *image) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m imageModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	found, err := i.client.image(ctx, m.Name.ValueString(), m.Delay.ValueString())
	if err != nil {
		resp.Diagnostics.AddError("Cannot read image "+m.Name.ValueString(), err.Error())
		return
	}
	m.ID = types.StringValue(found.ID)
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}
