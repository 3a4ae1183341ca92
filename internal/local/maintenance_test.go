package local

import (
	"testing"
	"testing/synctest"

	"isthmus/api"
)

func TestMaintenanceTakesOutOfUseAndOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dir := newCatalog(), t.TempDir()
		boot := func() *Agent {
			a := newAgent(t, c, func(cfg *Config) { cfg.Dir = dir })
			must(t, a.SetConfigured([]api.ServiceDefinition{{Name: "db"}}, nil))
			return a
		}
		a := boot()
		stop := start(t, a)
		must(t, a.AddService(web(), false))
		synctest.Wait()
		c.writes()
		must(t, a.SetMaintenance("web1", true, "why"))
		must(t, a.SetMaintenance("web1", true, "another")) // the reason stays
		synctest.Wait()
		c.expect(t, "put _service_maintenance:web1=critical")
		must(t, a.SetMaintenance("db", true, ""))
		must(t, a.SetMaintenance("", true, "all"))
		must(t, a.SetMaintenance("", true, ""))
		synctest.Wait()
		c.expect(t, "put _node_maintenance=critical", "put _service_maintenance:db=critical")
		all := a.Checks()
		if got := all["_service_maintenance:web1"]; got.Notes != "why" || got.ServiceName != "web" || got.Type != "maintenance" {
			t.Errorf("got %+v", got)
		}
		if err := a.SetMaintenance("none", false, ""); api.CodeOf(err) != api.NotFound {
			t.Errorf("got %v", err)
		}
		if err := a.UpdateTTL("_node_maintenance", api.Passing, ""); err == nil {
			t.Error("maintenance was made to pass")
		}
		must(t, a.SetConfigured([]api.ServiceDefinition{{Name: "db"}}, nil)) // a reload
		stop()

		a = boot()
		if !jsonEqual(t, a.Checks(), all) {
			t.Errorf("got the checks %v, want %v", a.Checks(), all)
		}
		start(t, a)
		c.expect(t)
		must(t, a.SetMaintenance("db", false, ""))
		must(t, a.SetMaintenance("", false, ""))
		must(t, a.SetMaintenance("", false, ""))
		must(t, a.RemoveService("web1")) // its maintenance with it
		synctest.Wait()
		c.expect(t, "delete _node_maintenance", "delete _service_maintenance:db", "delete web1")
		if left := kept(t, dir); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
	})
}
