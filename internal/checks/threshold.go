package checks

import (
	"log/slog"

	"isthmus/api"
)

// threshold lets a change of state through only after enough equal results in a
// row. The very first result always counts, so that a new check says at once
// what it knows.
type threshold struct {
	passing, warning, critical int // results in a row that each state needs
	successes, failures        int // in a row, until now
	report                     Report
	log                        *slog.Logger
}

func newThreshold(def *api.CheckType, report Report, log *slog.Logger) *threshold {
	t := &threshold{
		passing: def.SuccessBeforePassing, warning: def.FailuresBeforeWarning, critical: def.FailuresBeforeCritical,
		report: report, log: log,
	}
	if t.warning <= 0 {
		t.warning = t.critical
	}
	t.successes, t.failures = t.passing, t.critical
	return t
}

// result takes the result of one probe.
func (t *threshold) result(status, output string) {
	if status == api.Critical {
		t.failures, t.successes = t.failures+1, 0
		switch {
		case t.failures >= t.critical:
			t.report(api.Critical, output)
		case t.failures >= t.warning:
			t.report(api.Warning, output)
		default:
			t.log.Debug("probe failed, too few times to count", "failures", t.failures, "output", output)
		}
		return
	}
	t.successes, t.failures = t.successes+1, 0
	if t.successes < t.passing {
		t.log.Debug("probe succeeded, too few times to count", "successes", t.successes)
		return
	}
	t.report(status, output)
}
