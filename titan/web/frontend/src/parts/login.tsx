// Who may see this: the token of `titan token issue`, or the address that `titan web` printed.
import { useState } from "preact/hooks";
import { logIn } from "../api";
import { Problem } from "./small";

export function Login() {
  const [token, setToken] = useState("");
  const [error, setError] = useState<Error | null>(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await logIn(token.trim());
    } catch (problem) {
      setError(problem as Error);
    }
    setBusy(false);
  };
  return (
    <main class="login" id="main">
      <form onSubmit={submit}>
        <h1>Titan</h1>
        <label>
          Token
          <input
            type="password"
            autocomplete="current-password"
            value={token}
            required
            autofocus
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </label>
        <button type="submit" class="primary" disabled={isBusy}>
          Log in
        </button>
        <Problem error={error} />
        <p class="fine">
          The command <code>titan web</code> prints an address that contains one.
        </p>
      </form>
    </main>
  );
}
