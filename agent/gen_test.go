package agent
import ("testing";"os";"time";"os/exec";"path/filepath")
func TestGen(t *testing.T){
 if os.Getenv("GEN")=="" {return}
 m:=newMachine(t); c:=m.connect()
 out:=os.Getenv("GEN")
 save:=func(id RunID,name string){ d:=filepath.Join(out,name); os.RemoveAll(d); must(t,exec.Command("cp","-r",m.dir(id),d).Run()); os.Remove(filepath.Join(d,"scratch")) }
 u:=func(s *Spec){s.Dir="/usr"}
 s:=with(m.command("echo RESULTS: x; echo err >&2; exit 3"),func(s *Spec){u(s); s.Timeout=time.Hour}); start(t,c,s); follow(t,c,s.Run); save(s.Run,"v1-ended")
 s=with(m.command("exec sleep 1000"),u); start(t,c,s); must(t,c.Control(m.ctx(),s.Run,Control{Cancel:true})); follow(t,c,s.Run); save(s.Run,"v1-canceled")
 s=with(m.command(""),func(s *Spec){u(s); s.Argv=[][]byte{[]byte("no-such-program")}}); startResult(t,c,s); follow(t,c,s.Run); save(s.Run,"v1-not-started")
 s=with(m.command("echo up; sleep 1000"),u); start(t,c,s); awaitOutput(t,c,s.Run,"up"); killSupervisor(t,m,s.Run); follow(t,c,s.Run); save(s.Run,"v1-vanished")
 f,err:=os.OpenFile(filepath.Join(m.dir(s.Run),"run"),os.O_RDWR,0); must(t,err)
 f.WriteAt(make([]byte,512),512); save(s.Run,"v1-ambiguous"); f.WriteAt(make([]byte,512),0); save(s.Run,"v1-claimed"); f.Close()
}
