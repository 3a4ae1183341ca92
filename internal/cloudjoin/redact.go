package cloudjoin

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// secretWords are in the names of the keys whose values are secrets, whichever
// provider they belong to: api_token, secret_access_key, access_key_id or api_key.
var secretWords = []string{"token", "secret", "password", "access_key", "api_key"}

// secret tells whether a key, or a setting with such a key, is one that holds a
// secret.
func secret(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(text, word) })
}

// newRedactor replaces the secrets among args by ***, also where they are written
// as in a URL or a quoted string.
func newRedactor(args map[string]string) *strings.Replacer {
	var forms []string
	for key, v := range args {
		if v == "" || !secret(key) {
			continue
		}
		forms = append(forms, v, url.QueryEscape(v), url.PathEscape(v), strings.Trim(strconv.Quote(v), `"`))
	}
	// Of two that begin alike the longer one goes first, or its end would stay.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, f := range forms {
		pairs = append(pairs, f, "***")
	}
	return strings.NewReplacer(pairs...)
}
