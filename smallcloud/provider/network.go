package provider

import (
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"holdfast/smallcloud"
)

const kindNetwork = "network"

// newNetwork is the resource smallcloud_network: another cidr is another
// network.
func newNetwork() resource.Resource {
	return &kind[networkModel]{name: kindNetwork, schema: schema.Schema{
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
	}}
}

var _ resource.ResourceWithImportState = (*kind[networkModel])(nil)

type networkModel struct {
	ID   types.String `tfsdk:"id"`
	Name types.String `tfsdk:"name"`
	CIDR types.String `tfsdk:"cidr"`
}

func (m networkModel) id() string { return m.ID.ValueString() }

func (m networkModel) spec() smallcloud.Spec {
	attributes := map[string]any{}
	put(attributes, "cidr", m.CIDR)
	return smallcloud.Spec{Kind: kindNetwork, Name: m.Name.ValueString(), Attributes: attributes}
}

func (m networkModel) with(r smallcloud.Resource) networkModel {
	m.ID, m.Name, m.CIDR = types.StringValue(r.ID), types.StringValue(r.Name), get(r.Attributes, "cidr")
	return m
}
