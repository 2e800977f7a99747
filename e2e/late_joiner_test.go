package e2e

import (
	"testing"
)

func TestLateX(t *testing.T) {
	b := lab.shared(t, firefox)
	s := startServer(t, callSettings(t, firefox, newMainServer(t)))
	for _, client := range []string{shipped} {
		sc := newScene(t, s, b, client)
		a := sc.join(t, "ann", nil)
		bob := sc.join(t, "bob", nil)
		a.hearsExactly(t, bob)
		c := sc.join(t, "cid", map[string]any{"listenOnly": true})
		for round := range 3 {
			if round > 0 {
				a.call(t, "mute")
			}
			var out []string
			c.mustEval(t, `
		const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
		const out = [];
		for (let i = 0; i < 4; i++) {
			const d = [0, i % 2 == 0 ? Math.round(Math.random()*120) : 400];
			await e2e.call("setDelays", d);
			await e2e.call("rebuild");
			const seen = [];
			for (let k = 0; k < 6; k++) { await sleep(200); const x = await e2e.inbound(); seen.push((x.ann?.packets ?? -1) + "/" + (x.bob?.packets ?? -1)); }
			out.push(d[1] + "ms: " + seen.join(" "));
		}
		return out;`, &out)
			for _, o := range out {
				t.Log(o)
			}
			if round > 0 {
				a.call(t, "unmute")
				var x string
				c.mustEval(t, `await new Promise((r) => setTimeout(r, 500)); const x = await e2e.inbound(); return JSON.stringify(x)`, &x)
				t.Log(x)
			}
		}
	}
}
