// The form for a new job, with the names and forms of `titan submit`.
import { useState } from "preact/hooks";
import { post } from "../api";
import { go, link } from "../location";
import { Dialog, Problem } from "../parts/small";
import { splitWords } from "../words";

interface Field {
  name: string;
  label: string;
  hint: string;
}

const TEXTS: readonly Field[] = [
  { name: "name", label: "Name", hint: "that of the command" },
  { name: "cpus", label: "CPUs", hint: "1" },
  { name: "memory", label: "Memory", hint: "no limit; 4GiB" },
  { name: "array", label: "Array", hint: "one task; 0-99, 0-999%50" },
  { name: "priority", label: "Priority", hint: "0" },
  { name: "time_limit", label: "Time limit", hint: "none; 10m, 1h30m" },
  { name: "cwd", label: "Directory", hint: "as the server chooses" },
  { name: "after", label: "After", hint: "at once; 42, 43:any" },
];

export function SubmitDialog({ onClose }: { onClose: () => void }) {
  const [values, setValues] = useState<Record<string, string>>({});
  const [isShell, setShell] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const [isBusy, setBusy] = useState(false);
  const set = (name: string) => (event: { currentTarget: { value: string } }) =>
    setValues({ ...values, [name]: event.currentTarget.value });
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const { job_id } = await post<{ job_id: number }>("/jobs", bodyOf(values, isShell));
      onClose();
      go(link(`/jobs/${job_id}`));
    } catch (problem) {
      setError(problem as Error);
      setBusy(false);
    }
  };
  return (
    <Dialog title="Submit a job" onClose={onClose}>
      <form onSubmit={submit} class="submit">
        <label class="wide">
          Command
          <textarea name="command" rows={2} required autofocus value={values["command"] ?? ""} onInput={set("command")} spellcheck={false} />
        </label>
        <label class="wide check">
          <input type="checkbox" checked={isShell} onChange={(event) => setShell(event.currentTarget.checked)} />
          Run it in a shell (pipes, variables, &&)
        </label>
        {TEXTS.map(({ name, label, hint }) => (
          <label key={name}>
            {label}
            <input name={name} placeholder={hint} value={values[name] ?? ""} onInput={set(name)} spellcheck={false} autocomplete="off" />
          </label>
        ))}
        <label class="wide">
          Environment, a line for each
          <textarea name="env" rows={2} placeholder="NAME=value" value={values["env"] ?? ""} onInput={set("env")} spellcheck={false} />
        </label>
        <div class="wide">
          <Problem error={error} />
        </div>
        <div class="wide dialog-end">
          <button type="button" onClick={onClose}>
            Close
          </button>
          <button type="submit" class="primary" disabled={isBusy}>
            Submit
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** What the server is sent. Raises Error with a sentence. */
function bodyOf(values: Record<string, string>, isShell: boolean): Record<string, unknown> {
  const text = (name: string) => (values[name] ?? "").trim();
  const command = text("command");
  const body: Record<string, unknown> = isShell ? { shell: command } : { command: splitWords(command) };
  for (const name of ["name", "memory", "array", "time_limit", "cwd"]) if (text(name)) body[name] = text(name);
  for (const name of ["cpus", "priority"]) {
    if (!text(name)) continue;
    const number = Number(text(name));
    if (!Number.isFinite(number)) throw new Error(`${name}: ${text(name)} is no number.`);
    body[name] = number;
  }
  if (text("after")) body["after"] = text("after").split(/[\s,]+/);
  const lines = text("env").split("\n").filter((line) => line.trim());
  if (lines.length > 0) body["env"] = Object.fromEntries(lines.map(assignment));
  return body;
}

function assignment(line: string): [string, string] {
  const place = line.indexOf("=");
  if (place < 1) throw new Error(`Environment: write ${line.trim()} as NAME=value.`);
  return [line.slice(0, place).trim(), line.slice(place + 1)];
}
