package telemetry

import (
	"fmt"
	"io"
	"strings"
)

// Docs writes the metrics as a table in Markdown.
func Docs(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# Metrics

What an agent measures, as ` + "`GET /v1/agent/metrics`" + ` shows it: the last interval of 10 seconds as JSON, and all since the
start as text for Prometheus with ` + "`?format=prometheus`" + `, when ` + "`telemetry.prometheus_retention_time`" + ` is set. The
` + "`telemetry`" + ` block of the [settings](config.md) says where else they are sent.

Names begin with ` + "`telemetry.metrics_prefix`" + `, which is ` + "`consul`" + `; those of gauges go on with the name of the machine,
unless ` + "`telemetry.disable_hostname`" + ` is set. For Prometheus, dots and dashes are underscores: ` + "`consul_api_http`" + `.
A ` + "`<word>`" + ` in a name stands for what differs. A metric that is not set or counted for a while is no longer shown.

| Name | Kind | Unit | Labels | What it is |
|---|---|---|---|---|
`)
	for _, d := range Declared() {
		labels := ""
		if len(d.Labels) > 0 {
			labels = "`" + strings.Join(d.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Name, d.Kind, d.Unit, labels, d.Help)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write docs: %w", err)
	}
	return nil
}
