package e2e

import (
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// admin is a client of the supervisor's service for operators.
func (s *server) admin(t *testing.T) adminv1.AdminServiceClient {
	t.Helper()
	client, hangUp := s.operator(t)
	t.Cleanup(hangUp)
	return client
}

// operator is admin for one question: the caller hangs up.
func (s *server) operator(t *testing.T) (client adminv1.AdminServiceClient, hangUp func()) {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+filepath.Join(s.runDir, "supervisor.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return adminv1.NewAdminServiceClient(conn), func() { _ = conn.Close() }
}
