package provider

import (
	"context"
	"errors"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"holdfast/smallcloud"
)

// network is the resource smallcloud_network: another cidr is another network.
type network struct{ client *client }

var (
	_ resource.ResourceWithConfigure   = (*network)(nil)
	_ resource.ResourceWithImportState = (*network)(nil)
)

type networkModel struct {
	ID   types.String `tfsdk:"id"`
	Name types.String `tfsdk:"name"`
	CIDR types.String `tfsdk:"cidr"`
}

const kindNetwork = "network"

func (n *network) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_network"
}

func (n *network) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "A network in the small cloud.",
		Attributes: map[string]schema.Attribute{
			"id":   fixed("The cloud's name for the network; a new one for each creation."),
			"name": schema.StringAttribute{Description: "The network's name.", Required: true},
			"cidr": schema.StringAttribute{
				Description:   "Its addresses. Changing them replaces the network.",
				Required:      true,
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
		},
	}
}

func (n *network) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	n.client = configured(req.ProviderData, &resp.Diagnostics)
}

func (n *network) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m networkModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	made, err := n.client.create(ctx, m.spec())
	if err != nil {
		resp.Diagnostics.AddError("Cannot create network "+m.Name.ValueString(), err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m.with(made))...)
}

func (n *network) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m networkModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	found, err := n.client.read(ctx, m.ID.ValueString())
	if errors.Is(err, errGone) || err == nil && found.Kind != kindNetwork {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("Cannot read network "+m.ID.ValueString(), err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m.with(found))...)
}

func (n *network) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m networkModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	changed, err := n.client.update(ctx, m.ID.ValueString(), m.spec())
	if err != nil {
		resp.Diagnostics.AddError("Cannot update network "+m.Name.ValueString(), err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m.with(changed))...)
}

func (n *network) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m networkModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := n.client.remove(ctx, m.ID.ValueString()); err != nil {
		resp.Diagnostics.AddError("Cannot delete network "+m.Name.ValueString(), err.Error())
	}
}

func (n *network) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("id"), req, resp)
}

func (m networkModel) spec() smallcloud.Spec {
	attributes := map[string]any{}
	put(attributes, "cidr", m.CIDR)
	return smallcloud.Spec{Kind: kindNetwork, Name: m.Name.ValueString(), Attributes: attributes}
}

func (m networkModel) with(r smallcloud.Resource) networkModel {
	m.ID, m.Name, m.CIDR = types.StringValue(r.ID), types.StringValue(r.Name), get(r.Attributes, "cidr")
	return m
}
