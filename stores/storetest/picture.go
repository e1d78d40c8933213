package storetest

import (
	"fmt"
	"os"

	"github.com/anishathalye/porcupine"
)

// picture writes a history to an HTML page and returns a text that names the file.
func picture(info porcupine.LinearizationInfo) string {
	f, err := os.CreateTemp("", "storetest-history-*.html")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if err := porcupine.Visualize(model, info, f); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("see %s", f.Name())
}
