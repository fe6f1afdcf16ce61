package provider

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// put leaves out what the configuration does not set.
func put(attributes map[string]any, name string, v types.String) {
	if !v.IsNull() && !v.IsUnknown() {
		attributes[name] = v.ValueString()
	}
}

// get reads what put wrote; a value that is not a string is shown as Go would.
func get(attributes map[string]any, name string) types.String {
	switch v := attributes[name].(type) {
	case nil:
		return types.StringNull()
	case string:
		return types.StringValue(v)
	default:
		return types.StringValue(fmt.Sprint(v))
	}
}

func getMap(attributes map[string]any, name string) types.Map {
	values, ok := attributes[name].(map[string]any)
	if !ok {
		return types.MapNull(types.StringType)
	}
	elements := make(map[string]attr.Value, len(values))
	for k := range values {
		elements[k] = get(values, k)
	}
	return types.MapValueMust(types.StringType, elements)
}
