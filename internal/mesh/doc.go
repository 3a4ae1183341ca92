// Package mesh keeps a Snapshot of all that one proxy depends on up to date, from
// whatever answers the methods of package wire.
//
// A [Gateway] runs one watch for each thing it depends on and gathers their last
// answers. While one has not answered yet there is no snapshot; once all have,
// there is one after every change. A watch that fails leaves the last answer in
// place. Other datacenters are never waited for.
//
// # Gateways of another datacenter
//
// Two sources tell them. The dump is what the other datacenter itself answers: it
// is true when it comes, but comes through those very gateways, and hangs or fails
// once they have moved. The state is the own datacenter's copy of what the other
// one has published: it comes by another way, and late, hours late when that way
// is cut. Times of their making are not comparable and log indexes only within one
// history of a datacenter: one that was rebuilt counts from the start again.
// Two answers are of one history when they name the same registration of an
// instance: node, id and the indexes at which both were created. Each source
// remembers the registrations of its history. The newer one is found so:
//
//   - A source that names no gateways gives way to one that does.
//   - In one history the state wins if it holds a change of a later index than the
//     dump's answer; else the dump wins.
//   - Else the dump wins, as it was told by a datacenter that was alive, unless a
//     history of the state began after the last answer of the dump. One begins
//     where a state names no registration that it has named before. When those of
//     the first reading began is unknown, and so never after the dump.
//   - Where the dump wins although its watch has failed since, the gateways of both
//     are named: whichever is right brings the dump back, and nothing is ever stuck
//     at gateways that are gone.
//
// So a moved gateway is followed by the state although its dump hangs; a state
// that lags does not undo a dump; and a rebuilt datacenter is followed through
// whichever source hears of it first.
package mesh
