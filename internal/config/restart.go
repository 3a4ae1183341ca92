package config

import "reflect"

// NeedRestart lists the settings that differ and take effect with a restart only.
func NeedRestart(running, now *Settings) []string {
	a, b := reflect.ValueOf(running).Elem(), reflect.ValueOf(now).Elem()
	var out []string
	for _, f := range schema() {
		if f.reload == "no" && !reflect.DeepEqual(a.FieldByIndex(f.index).Interface(), b.FieldByIndex(f.index).Interface()) {
			out = append(out, f.path)
		}
	}
	return out
}
