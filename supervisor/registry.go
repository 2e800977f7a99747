package supervisor

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/lapse"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling"
)

// registry is who is where. All fields are guarded by mu.
type registry struct {
	mu       sync.Mutex
	channels map[ident.ChannelID]*channel
	sessions map[*signaling.Session]*user
	// kicked holds until when a user may not open a channel again.
	kicked map[membership]time.Time
	// making are the ids of objects that a call under way makes on a worker: known
	// when it is answered.
	making map[string]struct{}
	// emptied are channels of which a former supervisor may have told the main server,
	// and in which nobody is.
	emptied []ident.ChannelID
	// poisoned are channels in quarantine, with when they leave it.
	poisoned map[ident.ChannelID]time.Time
	// condemned are marks of routers of which nobody knows whose they are, with when
	// their channels would leave the quarantine.
	condemned map[uint64]time.Time
	// owners are whose routers there are, and were not long ago, by their marks.
	owners map[uint64]owner
	// drains are the deadlines of drains that have one.
	drains map[ident.Slot]*time.Timer
	closed bool // no grace any more: the process ends
	// leaving: the process ends and another goes on; users' media stay.
	leaving bool
}

// membership names a user in a channel.
type membership struct {
	channel ident.ChannelID
	user    ident.UserID
}

func newRegistry() *registry {
	return &registry{
		channels:  map[ident.ChannelID]*channel{},
		sessions:  map[*signaling.Session]*user{},
		kicked:    map[membership]time.Time{},
		poisoned:  map[ident.ChannelID]time.Time{},
		condemned: map[uint64]time.Time{},
		owners:    map[uint64]owner{},
		drains:    map[ident.Slot]*time.Timer{},
		making:    map[string]struct{}{},
	}
}

// make notes that an object is being made, until the returned function is called.
func (r *registry) make(id string) (made func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.making[id] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.making, id)
	}
}

// channel is one voice channel. It lives while it has users.
type channel struct {
	id      ident.ChannelID
	created time.Time
	users   []*user // in the order of joining
	byID    map[ident.UserID]*user
	// producers in the order of producing.
	producers    []*producer
	producerByID map[ident.ProducerID]*producer
	router       *router
	pictures     pictures
	// placing is the attempt to place the channel; nil: none is under way.
	placing *placing
	// placed is when a worker was last chosen for the channel.
	placed time.Time
	// carried is how many consumers the channel had when it lost its last router.
	carried int
}

// router is the media side of a channel on one worker. It outlives the worker's
// processes as long as each goes on with the state of the one before.
type router struct {
	id           ident.RouterID
	slot         ident.Slot
	epoch        ident.Epoch
	capabilities json.RawMessage
}

// user is one user in one channel, with all of its sockets.
type user struct {
	id       ident.UserID
	channel  *channel
	joined   time.Time
	sessions []*signaling.Session
	// askedAs is the credential of the last socket that left, for a kick meanwhile.
	askedAs ident.UserID
	// seen is the version of the channel's picture that was sent to all sockets.
	seen uint64
	// round is the last round of the channel's pictures that has come to the user.
	round uint64
	// grace runs while no socket is open; nil otherwise.
	grace        *lapse.Timer
	graces       uint64 // how many have begun: names the one that runs
	gone         bool   // removed: late answers find it so
	stranded     bool   // it has no transport, since there was no address to announce
	mediaFailed  bool   // the main server was told so, while a socket is open
	capabilities *workerv1.RtpCapabilities
	transports   []*transport // in the order of creation
	producer     *producer
	consumers    []*consumer
}

// transport is a user's transport. connected: its DTLS parameters were given.
type transport struct {
	id        ident.TransportID
	session   *signaling.Session // that created it; nil: one of a former supervisor
	created   time.Time
	connected bool
	told      *workerv1.RtpCapabilities      // as the worker has them in the app data
	consuming map[ident.ProducerID]*producer // consumed, or about to be
}

type producer struct {
	id        ident.ProducerID
	user      *user
	transport *transport
	session   *signaling.Session // that asked for it; nil: one of a former supervisor
	// hearers are the transports that consume it, or are about to, with their users.
	hearers map[*transport]*user
}

// consumer is what a transport sends of a producer. doubtful: it was made just before
// the former supervisor ended, so its client may not know of it.
type consumer struct {
	id        ident.ConsumerID
	producer  *producer
	transport *transport
	doubtful  bool
}

func (ch *channel) user(id ident.UserID) *user { return ch.byID[id] }

func (ch *channel) producer(id ident.ProducerID) *producer { return ch.producerByID[id] }

func (ch *channel) addUser(u *user) {
	if ch.byID == nil {
		ch.byID = map[ident.UserID]*user{}
	}
	ch.users = append(ch.users, u)
	ch.byID[u.id] = u
}

func (ch *channel) dropUser(u *user) {
	if i := slices.Index(ch.users, u); i >= 0 {
		ch.users = slices.Delete(ch.users, i, i+1)
		delete(ch.byID, u.id)
	}
}

func (ch *channel) addProducer(p *producer) {
	if ch.producerByID == nil {
		ch.producerByID = map[ident.ProducerID]*producer{}
	}
	ch.producers = append(ch.producers, p)
	ch.producerByID[p.id] = p
}

// reserve notes that the user's transport consumes the producer, or is about to.
func (t *transport) reserve(p *producer, u *user) {
	t.consuming[p.id] = p
	if p.hearers == nil {
		p.hearers = map[*transport]*user{}
	}
	p.hearers[t] = u
}

// release is the opposite of reserve.
func (t *transport) release(p *producer) {
	delete(t.consuming, p.id)
	delete(p.hearers, t)
}

// releaseAll is release for a transport that goes.
func (t *transport) releaseAll() {
	for _, p := range t.consuming {
		t.release(p)
	}
}

func (u *user) transport(id ident.TransportID) *transport {
	for _, t := range u.transports {
		if t.id == id {
			return t
		}
	}
	return nil
}

// candidates are the transports that a request without a transport's id may mean:
// those of its own socket while another socket of the user is open or one of them
// is in use, else all of the user's (after a restored session).
func (u *user) candidates(s *signaling.Session) []*transport {
	var own []*transport
	connected := false
	for _, t := range u.transports {
		if t.session == s {
			own = append(own, t)
			connected = connected || t.connected
		}
	}
	if connected || (len(u.sessions) > 1 && len(own) > 0) {
		return own
	}
	return u.transports
}

// cleanup is what is to be closed on a worker once the lock is released.
type cleanup struct {
	router     router
	closeAll   bool // the router with everything in it
	transports []ident.TransportID
	producers  []ident.ProducerID
	consumers  []ident.ConsumerID
}

func (c *cleanup) empty() bool {
	return !c.closeAll && len(c.transports) == 0 && len(c.producers) == 0 && len(c.consumers) == 0
}

// dropProducerLocked takes a producer and its consumers out.
func (r *registry) dropProducerLocked(p *producer) {
	ch := p.user.channel
	if i := slices.Index(ch.producers, p); i >= 0 {
		ch.producers = slices.Delete(ch.producers, i, i+1)
		delete(ch.producerByID, p.id)
	}
	if p.user.producer == p {
		p.user.producer = nil
	}
	for t, u := range p.hearers {
		u.consumers = slices.DeleteFunc(u.consumers, func(c *consumer) bool { return c.producer == p })
		t.release(p)
	}
}

// dropTransportLocked takes a transport and its consumers out, and returns the
// producer on it, if any, which the caller drops and tells of.
func (r *registry) dropTransportLocked(u *user, t *transport) *producer {
	u.transports = slices.DeleteFunc(u.transports, func(other *transport) bool { return other == t })
	u.consumers = slices.DeleteFunc(u.consumers, func(c *consumer) bool { return c.transport == t })
	t.releaseAll()
	if u.producer != nil && u.producer.transport == t {
		return u.producer
	}
	return nil
}

// dropConsumerLocked takes a consumer out; false: it was out.
func (u *user) dropConsumerLocked(c *consumer) bool {
	before := len(u.consumers)
	u.consumers = slices.DeleteFunc(u.consumers, func(other *consumer) bool { return other == c })
	if len(u.consumers) == before {
		return false
	}
	c.transport.release(c.producer)
	return true
}
