package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// origin is where a setting was last set: by which file and line, or flag, and
// under which key.
type origin struct{ where, key string }

// decoder puts the values of sources into settings, one source after the other.
type decoder struct {
	source   string
	problems problems
	// set remembers where each setting, by path, was last set.
	set map[string]origin
	// ignored are the keys that were accepted without effect.
	ignored []string
	// warnings are the other things worth saying.
	warnings []string
	// written maps a path to the older key that the file has in its place.
	written map[string]string
	// loose is set inside definitions, where older spellings are known.
	loose bool
}

// decodeSource decodes a whole file. Older keys come first, so that in one file the
// newer key decides.
func (d *decoder) decodeSource(s *Settings, name string, root *value) {
	d.source = name
	d.written = map[string]string{}
	dst := reflect.ValueOf(s).Elem()
	rest := &value{kind: kindObject, line: root.line}
	for _, e := range root.entries {
		old, ok := renamed[strings.ToLower(e.key)]
		if !ok {
			rest.entries = append(rest.entries, e)
			continue
		}
		if e.val.kind == kindNull {
			continue
		}
		d.warnings = append(d.warnings, fmt.Sprintf("%s: %s is an older key: use %s", d.at(e.line), e.key, old))
		d.written[old] = strings.ToLower(e.key)
		d.decode(dst, wrap(old, e), "")
		delete(d.written, old)
	}
	d.decode(dst, rest, "")
}

// wrap puts the value of an entry under a path of keys.
func wrap(path string, e entry) *value {
	val := e.val
	keys := strings.Split(path, ".")
	for _, key := range slices.Backward(keys) {
		val = &value{kind: kindObject, line: e.line, entries: []entry{{key: key, line: e.line, val: val}}}
	}
	return val
}

func (d *decoder) at(line int) string {
	if line == 0 {
		return d.source
	}
	return d.source + ":" + strconv.Itoa(line)
}

// key is the key to tell people, which is the one they wrote.
func (d *decoder) key(path string) string {
	if old, ok := d.written[path]; ok {
		return old
	}
	return path
}

func (d *decoder) wrong(dst reflect.Type, v *value, path string) {
	d.problems.add(d.at(v.line), d.key(path), "is "+v.kind.String()+" where a "+typeName(dst)+" is expected", example(dst))
}

// example shows how a value of a type is written.
func example(t reflect.Type) string {
	switch typeName(t) {
	case "duration":
		return `write a string with a unit, such as "30s"`
	case "string":
		return `write it between double quotes`
	case "bool":
		return "write true or false without quotes"
	case "number", "decimal number":
		return "write the digits without quotes"
	case "list of strings":
		return `write ["a", "b"]`
	case "list of objects":
		return "write [{ … }]"
	}
	return "write { key = value }, once"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// decode puts a value into a setting. Nulls set nothing.
func (d *decoder) decode(dst reflect.Value, v *value, path string) {
	if v.kind == kindNull {
		return
	}
	if dst.Kind() == reflect.Pointer {
		fresh := reflect.New(dst.Type().Elem())
		d.decode(fresh.Elem(), v, path)
		dst.Set(fresh)
		return
	}
	switch dst.Kind() {
	case reflect.Struct:
		d.object(dst, v, path)
		return
	case reflect.Slice:
		d.list(dst, v, path)
	case reflect.Map:
		d.table(dst, v, path)
	default:
		d.scalar(dst, v, path)
	}
	if d.set != nil {
		d.set[path] = origin{where: d.at(v.line), key: d.key(path)}
	}
}

// single takes the object out of a list of one, which is how a block and a list
// with one object are the same thing.
func single(v *value) *value {
	if v.kind == kindList && len(v.items) == 1 {
		return v.items[0]
	}
	return v
}

func (d *decoder) object(dst reflect.Value, v *value, path string) {
	obj := single(v)
	if obj.kind == kindNull {
		return
	}
	if obj.kind != kindObject {
		what := "is " + v.kind.String() + " where an object is expected"
		if v.kind == kindList && len(v.items) > 1 && v.items[1].kind == kindObject {
			d.problems.add(d.at(v.items[1].line), d.key(path), "is given more than once", "put its keys into one block")
			return
		}
		d.problems.add(d.at(v.line), d.key(path), what, "write { key = value }")
		return
	}
	for _, e := range obj.entries {
		d.entry(dst, e, path)
	}
}

func (d *decoder) entry(dst reflect.Value, e entry, path string) {
	t := dst.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("conf")
		switch {
		case d.same(e.key, key):
			d.decode(dst.Field(i), e.val, join(path, key))
			return
		case d.same(e.key, f.Tag.Get("single")):
			d.one(dst.Field(i), e.val, join(path, f.Tag.Get("single")))
			return
		}
	}
	d.foreign(t, e, path)
}

// same compares keys as the reference does: without regard to case and, in
// definitions, to underscores.
func (d *decoder) same(written, key string) bool {
	if key == "" {
		return false
	}
	if d.loose {
		return strings.EqualFold(strings.ReplaceAll(written, "_", ""), strings.ReplaceAll(key, "_", ""))
	}
	return strings.EqualFold(written, key)
}

// foreign handles a key without a field: one of the reference that is not built
// yet, or one nobody knows.
func (d *decoder) foreign(t reflect.Type, e entry, path string) {
	name := join(path, strings.ToLower(e.key))
	if !d.loose && d.unbuilt(name, e) {
		return
	}
	cure := "remove it"
	if near := nearest(strings.ToLower(e.key), d.known(t, path)); near != "" {
		cure = "did you mean " + near + "?"
	}
	d.problems.add(d.at(e.line), join(path, e.key), "is no known key", cure)
}

// known lists the keys that may stand at a path.
func (d *decoder) known(t reflect.Type, path string) []string {
	var keys []string
	for i := range t.NumField() {
		for _, tag := range []string{"conf", "single"} {
			if key := t.Field(i).Tag.Get(tag); key != "" {
				keys = append(keys, key)
			}
		}
	}
	if !d.loose {
		keys = append(keys, unbuiltUnder(path)...)
	}
	if path == "" {
		for old := range renamed {
			keys = append(keys, old)
		}
	}
	return keys
}

// one appends a single block to a list.
func (d *decoder) one(dst reflect.Value, v *value, path string) {
	if obj := single(v); obj.kind == kindObject {
		d.list(dst, obj, path)
		return
	}
	if v.kind == kindList && len(v.items) > 1 {
		d.problems.add(d.at(v.items[1].line), path, "is given more than once", "write "+path+"s = [{ … }, { … }]")
		return
	}
	if v.kind != kindNull {
		d.problems.add(d.at(v.line), path, "is "+v.kind.String()+" where an object is expected", "write { key = value }")
	}
}

// list appends to a list: what several files say is added up.
func (d *decoder) list(dst reflect.Value, v *value, path string) {
	elem := dst.Type().Elem()
	objects := elem.Kind() == reflect.Struct || elem.Kind() == reflect.Map
	if v.kind != kindList && (!objects || v.kind != kindObject) {
		d.wrong(dst.Type(), v, path)
		return
	}
	for i, item := range listed(v) {
		at := path
		if v.kind == kindList {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		if item.kind == kindNull || objects && item.kind != kindObject {
			d.problems.add(d.at(item.line), at, "is "+item.kind.String()+" where "+typeName(dst.Type())+" needs another kind", example(dst.Type()))
			continue
		}
		fresh := reflect.New(elem).Elem()
		outer := *d
		d.loose, d.set = objects || d.loose, nil
		d.decode(fresh, item, at)
		d.loose, d.set = outer.loose, outer.set
		if elem.Kind() == reflect.Struct {
			fresh.FieldByName("Source").SetString(d.at(item.line))
		}
		dst.Set(reflect.Append(dst, fresh))
	}
}

// table adds to a map.
func (d *decoder) table(dst reflect.Value, v *value, path string) {
	obj := single(v)
	if obj.kind != kindObject {
		d.wrong(dst.Type(), v, path)
		return
	}
	if dst.IsNil() {
		dst.Set(reflect.MakeMap(dst.Type()))
	}
	for _, e := range obj.entries {
		if dst.Type() == rawMapType {
			dst.SetMapIndex(reflect.ValueOf(e.key), reflect.ValueOf(e.val.plain()))
			continue
		}
		fresh := reflect.New(dst.Type().Elem()).Elem()
		outer := d.set
		d.set = nil
		d.decode(fresh, e.val, path+"["+printable(e.key)+"]")
		d.set = outer
		dst.SetMapIndex(reflect.ValueOf(e.key), fresh)
	}
}

func (d *decoder) scalar(dst reflect.Value, v *value, path string) {
	switch kind := dst.Kind(); {
	case dst.Type() == durationType && v.kind == kindText:
		length, err := time.ParseDuration(v.text)
		if err != nil {
			d.problems.add(d.at(v.line), d.key(path), quote(v.text)+" is not a duration", example(durationType))
			return
		}
		dst.SetInt(int64(length))
	case dst.Type() == durationType:
		d.wrong(dst.Type(), v, path)
	case kind == reflect.String && v.kind == kindText:
		dst.SetString(v.text)
	case kind == reflect.Bool && v.kind == kindBool:
		dst.SetBool(v.truth)
	case v.kind == kindNumber && kind == reflect.Float64:
		d.decimal(dst, v, path)
	case v.kind == kindNumber && (kind == reflect.Int || kind == reflect.Uint64):
		d.whole(dst, v, path)
	default:
		d.wrong(dst.Type(), v, path)
	}
}

func (d *decoder) decimal(dst reflect.Value, v *value, path string) {
	number, err := strconv.ParseFloat(v.text, 64)
	if err != nil {
		d.problems.add(d.at(v.line), d.key(path), v.text+" is not a number that fits", "write a smaller one")
		return
	}
	dst.SetFloat(number)
}

// whole sets a whole number; 3.0 is one.
func (d *decoder) whole(dst reflect.Value, v *value, path string) {
	number, err := strconv.ParseInt(v.text, 0, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(v.text, 64)
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
			d.problems.add(d.at(v.line), d.key(path), v.text+" is not a whole number that fits", "write one without a decimal point")
			return
		}
		number = int64(f)
	}
	if dst.Kind() == reflect.Uint64 {
		if number < 0 {
			d.problems.add(d.at(v.line), d.key(path), "cannot be negative", "write 0 or more")
			return
		}
		dst.SetUint(uint64(number))
		return
	}
	dst.SetInt(number)
}
