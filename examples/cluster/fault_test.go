package main

import (
	"strings"
	"testing"
	"time"
)

func TestOnlySomeFaultsMayCostRequests(t *testing.T) {
	for _, tt := range []struct {
		name     string
		faults   []string
		over     bool   // long ago
		want     string // that is blamed; "": none of them
		violates bool
	}{
		{name: "none", want: "", violates: true},
		{name: "one that may", faults: []string{"process"}, want: "process"},
		{name: "one that may not", faults: []string{"deploy"}, want: "deploy", violates: true},
		{name: "one that may, and lasts while another does not", faults: []string{"master", "deploy"}, want: "master"},
		{name: "the last one that may", faults: []string{"process", "master"}, want: "master"},
		{name: "one that is not known here", faults: []string{"deploy", "flood"}, want: "flood"},
		{name: "one that is over", faults: []string{"process"}, over: true, want: "", violates: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newChecker()
			for _, name := range tt.faults {
				c.end(c.begin(fault{name: name}), "")
			}
			begun := time.Now()
			if tt.over {
				begun = begun.Add(2 * settleTime)
			}
			c.request("GET /me", begun, 503, true)
			got := ""
			for _, f := range c.faults {
				if f.failed > 0 {
					got += f.name
				}
			}
			if got != tt.want || (tt.want == "") != (c.unprovoked.failed == 1) {
				t.Errorf("got %q and %d of no fault, want %q", got, c.unprovoked.failed, tt.want)
			}
			c.checkCosts()
			if violated := len(c.violations) > 0; violated != tt.violates {
				t.Errorf("violated: got %v, want %v", violated, tt.violates)
			}
		})
	}
}

func TestLossesBelongToTheFaultThatMayLose(t *testing.T) {
	c := newChecker()
	c.begin(fault{name: "lag", loses: true})
	c.begin(fault{name: "deploy"})
	c.begin(fault{name: "keys"})
	c.countLost(lostChange, 2)
	c.countLost(lostSession, 1)
	c.hid()
	var out strings.Builder
	c.report(&out)
	for _, want := range []string{"2 acknowledged changes, 1 sessions", "requests until the replica takes over"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got no %q in:\n%s", want, out.String())
		}
	}
	if lag, deploy := c.faults[0], c.faults[1]; lag.lost[lostChange] != 2 || deploy.lost != nil || deploy.hidden != 1 {
		t.Errorf("got %v of the fail-over, %v and %d hidden of the deployment", lag.lost, deploy.lost, deploy.hidden)
	}
}
