package wire

import (
	"jobserver/api"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// Needs shows what a job needs, as clients see it, nil for one slot.
func Needs(n *statepb.Needs) *api.Needs {
	if n == nil {
		return nil
	}
	out := &api.Needs{Slots: int(n.Slots), Exclusive: n.Exclusive, Pin: n.Pin}
	for _, a := range n.Amounts {
		out.Resources = append(out.Resources, amount(a.Name, a.Amount, a.Bytes))
	}
	out.Machines, out.Each = int(n.Machines), n.Each
	for _, w := range n.With {
		out.With = append(out.With, api.With{Name: w.Name, Class: w.Class,
			Machines: max(int(w.Machines), 1)})
	}
	return out
}

func amount(name string, n int64, bytes bool) api.Amount {
	return api.Amount{Name: name, Amount: n, Text: sched.AmountText(n, bytes)}
}

// grants shows what an attempt was given of resources.
func grants(g *statepb.Given) []api.Grant {
	var out []api.Grant
	for _, grant := range g.GetGrants() {
		one := api.Grant{Amount: amount(grant.Name, grant.Amount, grant.Bytes), Pool: grant.Pool,
			Enforced: grant.Enforced}
		for _, it := range grant.Items {
			one.Items = append(one.Items, int(it.Index))
			if it.Id != "" {
				one.IDs = append(one.IDs, it.Id)
			}
		}
		out = append(out, one)
	}
	return out
}

// resource shows what there is of something, and how much of it is given out.
func resource(r *statepb.Resource, held int64) api.Resource {
	out := api.Resource{Amount: amount(r.Name, sched.All(r), r.Bytes), Held: held, Auto: r.Auto}
	out.Text = sched.ResourceText(r)
	for _, it := range r.Items {
		if it.Gone {
			out.Gone = append(out.Gone, int(it.Index))
		} else {
			out.Items = append(out.Items, int(it.Index))
		}
	}
	return out
}

// Resources shows those of the pool.
func Resources(st *sched.State) []api.Resource {
	var out []api.Resource
	for _, r := range st.Resources() {
		one := resource(r.Resource, r.Held)
		one.Waiting = r.Waiting
		out = append(out, one)
	}
	return out
}
