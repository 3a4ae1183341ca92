package checks

import (
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
)

func TestStoppedTTLReportsNothing(t *testing.T) {
	for name, begin := range map[string]func(*TTL){
		"while it runs":          func(c *TTL) { c.Start(); c.Stop() },
		"before it was started":  func(c *TTL) { c.Stop(); c.Start() },
		"after an update":        func(c *TTL) { c.Start(); c.Update(api.Passing, ""); c.Stop() },
		"and updated once again": func(c *TTL) { c.Start(); c.Stop(); c.Update(api.Passing, "") },
	} {
		synctest.Test(t, func(t *testing.T) {
			var critical int
			r, err := New(api.CheckType{CheckID: "c", TTL: seconds(10)}, func(status, _ string) {
				if status == api.Critical {
					critical++
				}
			}, quiet)
			if err != nil {
				t.Fatal(err)
			}
			begin(asTTL(t, r))
			advance(time.Minute)
			if critical > 0 {
				t.Errorf("stopped %s: it became critical", name)
			}
		})
	}
}
