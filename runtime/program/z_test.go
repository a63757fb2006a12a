package program
import "testing"
func TestZ(t *testing.T){ println(interpAddr()); launch(nil) }
