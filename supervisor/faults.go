package supervisor

import workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"

// socketFault counts one cause of trouble on a worker's media sockets.
type socketFault struct {
	cause string
	count uint64
}

// socketFaults are all causes, in a fixed order. Operators know them by these names.
func socketFaults(s *workerv1.MediaSocketStats) []socketFault {
	return []socketFault{
		{"receive_buffer_full", s.GetKernelDrops()},
		{"send_buffer_full", s.GetWouldBlock()},
		{"destination_refused", s.GetRefused()},
		{"segmentation_refused", s.GetSegmentationRefused()},
		{"datagram_too_long", s.GetTruncated()},
		{"tcp_connection_refused", s.GetTcpRefused()},
		{"tcp_queue_full", s.GetTcpDropped()},
		{"tcp_frame_too_long", s.GetTcpBadFrames()},
	}
}
