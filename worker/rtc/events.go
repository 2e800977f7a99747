package rtc

// eventQueue bounds the events that nobody has taken yet.
const eventQueue = 4096

// Events carries what happens without a call. It has room for some thousand
// events; what does not fit is counted in Usage.EventsLost, and its reader must
// then dump. It is closed when Run returns.
func (l *Loop) Events() <-chan Event { return l.events }

func (l *Loop) emit(e Event) {
	select {
	case l.events <- e:
	default:
		l.count.eventsLost++
	}
}

func (l *Loop) emitState(t *transport) {
	l.emit(Event{
		Kind: EventTransportState, Router: t.router.id, Transport: t.id,
		IceState: t.ice.state, DtlsState: t.dtls.state,
	})
}
