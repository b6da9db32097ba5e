package agent

import (
	"testing"
	"time"

	"jobserver/agent/agenttest"
)

var (
	sampleRun  = RunID{Server: "s", Machine: "m", Job: 1, Attempt: 2, Token: "t"}
	sampleExit = Exit{Code: 3, OutCRC: 1, EndedAt: time.Unix(1, 0)}
)

// TestHostileAgentKnowsMessages: the hostile agent of tests knows the answers as they are now, so
// that it makes one thing wrong and not all.
func TestHostileAgentKnowsMessages(t *testing.T) {
	if n := len(agenttest.Methods); n != methodsEnd-1 {
		t.Errorf("it knows %d methods of %d", n, methodsEnd-1)
	}
	run, exit := sampleRun, sampleExit
	for _, tt := range []struct {
		method byte
		piece  bool
		fields func(*coder)
	}{
		{methodFacts, false, (&Facts{OS: "linux", GPUs: []GPU{{ID: "0"}}}).fields},
		{methodStart, false,
			(&startReply{Results: []StartResult{{StartedAt: time.Unix(1, 0)}}}).fields},
		{methodPoll, false,
			(&PollReply{Marks: []Mark{{Kind: Measurement, Text: "x=1"}}, Exit: &exit}).fields},
		{methodOutput, false, (&outputReply{Size: 1}).fields},
		{methodCode, false, (&codeReply{Dir: "/d"}).fields},
		{methodInput, false, (&codeReply{Dir: "/d"}).fields},
		{methodLay, false, (&layReply{Dir: "/d"}).fields},
		{methodList, true, (&runInfos{Runs: []RunInfo{{Run: run, Exit: &exit}}}).fields},
		{methodManifest, true,
			(&Manifest{Entries: []Entry{{Name: "n"}}, Missing: []string{"m"},
				Errors: []PathError{{Path: "p"}}}).fields},
	} {
		if err := agenttest.Check(tt.method, tt.piece, encode(tt.fields)); err != nil {
			t.Errorf("method %d: %v; package agenttest has its shape", tt.method, err)
		}
	}
}
