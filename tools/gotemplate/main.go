// Renders templates with Go's own text/template: one JSON object {"template", "data"} a line in, {"text"} or {"error"} out.
//
// The reference that camelid.text.gotemplate is compared with. Whole numbers in the data are ints, others floats. The
// options and the function json are those that Ollama sets.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type job struct {
	Template string `json:"template"`
	Data     any    `json:"data"`
}

// typed turns the numbers of decoded JSON into Go's int and float64.
func typed(value any) any {
	switch value := value.(type) {
	case json.Number:
		if whole, err := value.Int64(); err == nil {
			return int(whole)
		}
		float, _ := value.Float64()
		return float
	case []any:
		for i := range value {
			value[i] = typed(value[i])
		}
	case map[string]any:
		for key := range value {
			value[key] = typed(value[key])
		}
	}
	return value
}

var functions = template.FuncMap{
	"json": func(value any) string {
		text, _ := json.Marshal(value)
		return string(text)
	},
}

type bounded struct {
	bytes.Buffer
}

func (out *bounded) Write(content []byte) (int, error) {
	if out.Len()+len(content) > 1<<20 {
		return 0, os.ErrInvalid
	}
	return out.Buffer.Write(content)
}

func render(given job) (string, error) {
	parsed, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(given.Template)
	if err != nil {
		return "", err
	}
	var out bounded
	err = parsed.Execute(&out, typed(given.Data))
	return out.String(), err
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for lines.Scan() {
		var given job
		decoder := json.NewDecoder(strings.NewReader(lines.Text()))
		decoder.UseNumber()
		if err := decoder.Decode(&given); err != nil {
			panic(err)
		}
		text, err := render(given)
		if err != nil {
			_ = out.Encode(map[string]string{"error": err.Error()})
		} else {
			_ = out.Encode(map[string]string{"text": text})
		}
	}
}
