// Package config turns flags, files and defaults into one [Settings] value.
//
// Every setting is declared once, as a field of Settings (or of a struct inside
// it) with tags: conf is its key in files, flag its command-line flag, default
// and dev its value where nobody sets it (dev in development mode), reload
// whether a reload applies a change, doc what it is for. Decoding, flags,
// defaults and docs/config.md derive from these tags. Keys of the reference that
// have no field stand in one table with the class that says what happens when
// they are set.
package config
