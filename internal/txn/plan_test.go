package txn

import (
	"fmt"
	"testing"
)

// The verbs of a table row, each in time and late.
var tableOps = []Op{
	{Verb: Flash, Flashes: flash("added")},
	{Verb: Consume, Flashes: flash("waiting")},
	{Verb: Regenerate},
	{Verb: Regenerate, Late: true},
	{Verb: Rotate},
	{Verb: SetLifetime},
	{Verb: SetLifetime, Late: true},
	{Verb: Import},
	{Verb: Update, Run: &Run{F: func(any) {}, Ops: []Op{{Verb: Flash, Flashes: flash("of an update")}}}},
}

// allPlans yields every combination of mode, existence, state, reach and verbs.
func allPlans(yield func(f Facts, ops []Op, v View, a Action)) (n int) {
	both := []bool{false, true}
	for _, end := range []Verb{0, Destroy, Reset} {
		for set := range 1 << len(tableOps) {
			var ops []Op
			if end != 0 {
				ops = append(ops, Op{Verb: end})
			}
			for i, op := range tableOps {
				if set&(1<<i) != 0 {
					ops = append(ops, op)
				}
			}
			for _, exists := range []Existence{Fresh, Behind, Loaded, Lost, Ended} {
				v := Fold(ops, exists == Loaded)
				for _, reach := range []Reach{Whole, Header, Overdue, Gone} {
					for flags := range 1 << 7 {
						has := func(i int) bool { return both[flags>>i&1] }
						// OldCookie, Due and Proof concern a session that nothing changes.
						f := Facts{Stored: has(0), Exists: exists, Changed: has(1), OldCookie: has(2), Due: has(2), Proof: has(3), Reach: reach,
							Owned: has(4), Passed: has(5) && exists == Loaded && has(1), Empty: has(6) && len(v.Added) == 0}
						f.Beside = len(v.Added)+len(v.Consumed) > 0
						yield(f, ops, v, Plan(f, v))
						n++
					}
				}
			}
		}
	}
	return n
}

// Each promise is a claim about every plan. It returns whether it holds.
var promises = []struct {
	name  string
	holds func(f Facts, v View, a Action) bool
}{
	{"what is lost or ended is never stored again", func(f Facts, v View, a Action) bool {
		return !stores(a) || f.Exists != Lost && f.Exists != Ended && !v.Destroyed
	}},
	{"a record is created for a session that is kept nowhere, and for no other", func(f Facts, v View, a Action) bool {
		return (a.Step == Create) == (stores(a) && f.Stored && fresh(f))
	}},
	{"what belongs to a new id is not stored under the old one", func(f Facts, v View, a Action) bool {
		return !stores(a) || !v.LateMove && (!moves(f, v) || f.Reach == Whole && (a.Step == Move || !f.Stored || fresh(f)))
	}},
	{"a change is stored, given up with an event, or reported as late", func(f Facts, v View, a Action) bool {
		ended := v.Destroyed || f.Exists == Ended || a.Late == LateEnd
		nothing := fresh(f) && f.Empty
		return !changes(f, v) || ended || stores(a) || nothing || a.Step == Spend || a.Step == Discard || a.Late != InTime
	}},
	{"a session of which nothing is left ends, or never begins", func(f Facts, v View, a Action) bool {
		return !f.Empty || !stores(a) && (a.Step != Spend || f.Exists == Loaded)
	}},
	{"a session of which something is left does not end by itself", func(f Facts, v View, a Action) bool {
		return f.Empty || a.Step != Spend
	}},
	{"an id that another has replaced sends a cookie for a new authentication only", func(f Facts, v View, a Action) bool {
		return f.Exists != Behind || !stores(a) && !a.Cookie || v.Anew || f.Owned
	}},
	{"what passes to another owner gets a new id", func(f Facts, v View, a Action) bool {
		return !f.Passed || !stores(a) || !f.Stored || a.Step == Move
	}},
	{"nothing needs a cookie where the deadline has passed", func(f Facts, v View, a Action) bool {
		return f.Reach != Overdue || !a.Cookie && a.Step != Seal && a.Step != Reissue && a.Step != Create && a.Step != Move
	}},
	{"nothing is sent once the headers have left", func(f Facts, v View, a Action) bool {
		return f.Reach != Gone || !a.Cookie && a.Step != Seal && a.Step != Reissue
	}},
	{"no new id is sent where only a header is left", func(f Facts, v View, a Action) bool {
		return f.Reach == Whole || a.Step != Move && !moves(f, v) || !a.Cookie
	}},
	{"what did not change is not stored", func(f Facts, v View, a Action) bool {
		return changes(f, v) || !stores(a) && a.Step != Discard
	}},
	{"a new session that nothing was put into does nothing", func(f Facts, v View, a Action) bool {
		return !fresh(f) || changes(f, v) || a.Step == Nothing && !a.Cookie
	}},
	{"Destroy and Reset are carried out, or reported as late without a Store", func(f Facts, v View, a Action) bool {
		return v.End == (a.End || a.Late == LateEnd) && (a.Late != LateEnd || !f.Stored && f.Reach == Gone)
	}},
	{"each mode has steps of its own", func(f Facts, v View, a Action) bool {
		inCookie := a.Step == Seal || a.Step == Reissue
		inStore := a.Step == Touch || a.Step == Create || a.Step == Replace || a.Step == Move
		return !(f.Stored && inCookie) && !(!f.Stored && inStore)
	}},
	{"a Touch notes a use that is due, proves existence, or comes before a re-issue", func(f Facts, v View, a Action) bool {
		return a.Step != Touch || f.Exists == Loaded && (f.Due || f.Proof || a.Cookie && f.OldCookie) || f.Exists != Loaded && !f.Stored
	}},
	{"the cookie follows a new id, and a new end", func(f Facts, v View, a Action) bool {
		return a.Step != Create && a.Step != Move && !(a.Step == Replace && v.Prolong) || a.Cookie
	}},
	{"a late SetLifetime is reported, and what else changed is stored", func(f Facts, v View, a Action) bool {
		if !v.LateProlong || f.Exists == Lost || a.Step == Discard || f.Exists == Ended || v.Destroyed || a.Late == LateEnd {
			return true
		}
		return a.Late != InTime
	}},
}

func fresh(f Facts) bool { return f.Exists == Fresh || f.Exists == Behind }

func moves(f Facts, v View) bool { return v.Move || f.Passed }

func stores(a Action) bool { return a.Step >= Seal && a.Step <= Move }

func changes(f Facts, v View) bool {
	return f.Changed || f.Beside || moves(f, v) || v.Prolong || v.Imported
}

func TestEveryPlanKeepsThePromises(t *testing.T) {
	broken := make([]int, len(promises))
	n := allPlans(func(f Facts, ops []Op, v View, a Action) {
		if f.Exists == Lost && !f.Stored {
			return // a cookie cannot be lost
		}
		for i, p := range promises {
			if !p.holds(f, v, a) {
				if broken[i]++; broken[i] == 1 {
					t.Errorf("%s: not for %+v with %+v: %+v", p.name, f, verbsOf(ops), a)
				}
			}
		}
	})
	t.Logf("%d plans, %d promises", n, len(promises))
}

func verbsOf(ops []Op) (names []string) {
	for _, op := range ops {
		names = append(names, fmt.Sprintf("%d late=%t", op.Verb, op.Late))
	}
	return names
}

func TestFoldAndPlanAllocateNothingForARead(t *testing.T) {
	f := Facts{Stored: true, Exists: Loaded}
	if n := testing.AllocsPerRun(100, func() { Plan(f, Fold(nil, true)) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func BenchmarkFoldAndPlan(b *testing.B) {
	f := Facts{Stored: true, Exists: Loaded}
	b.ReportAllocs()
	for b.Loop() {
		Plan(f, Fold(nil, true))
	}
}

func TestFold(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ops     []Op
		present bool
		want    func(v View) bool
	}{
		{"RegenerateID of a session that is not stored is part of its beginning", []Op{{Verb: Regenerate}}, false, func(v View) bool { return !v.Move }},
		{"RegenerateID of a stored session moves it", []Op{{Verb: Regenerate}}, true, func(v View) bool { return v.Move }},
		{"SetLifetime alone does not make a new session stored", []Op{{Verb: SetLifetime}}, false, func(v View) bool { return !v.Prolong }},
		{"Destroy drops what came before and after it", []Op{{Verb: Flash, Flashes: flash("a")}, {Verb: Destroy}, {Verb: Flash, Flashes: flash("b")}, {Verb: Regenerate}}, true,
			func(v View) bool { return v.End && v.Destroyed && v.Added == nil && !v.Move }},
		{"Reset drops what came before it", []Op{{Verb: Regenerate}, {Verb: Flash, Flashes: flash("a")}, {Verb: Reset}, {Verb: Flash, Flashes: flash("b")}}, true,
			func(v View) bool {
				return v.End && !v.Destroyed && !v.Move && len(v.Added) == 1 && v.Added[0].Message == "b"
			}},
		{"RegenerateID after Reset is part of the new session's beginning", []Op{{Verb: Reset}, {Verb: Regenerate}}, true, func(v View) bool { return !v.Move }},
		{"what an Update's function called counts where the Update stands", []Op{{Verb: Update, Run: &Run{F: func(any) {}, Ops: []Op{{Verb: Regenerate}}}}}, true,
			func(v View) bool { return v.Move && len(v.Runs) == 1 }},
		{"a late RegenerateID moves nothing", []Op{{Verb: Regenerate, Late: true}}, true, func(v View) bool { return v.LateMove && !v.Move }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if v := Fold(tt.ops, tt.present); !tt.want(v) {
				t.Errorf("got %+v", v)
			}
		})
	}
}
