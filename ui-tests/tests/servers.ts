/** Servers that tests start, kill and start again by themselves, on folders of their own. */
import { ChildProcess, spawn } from 'child_process';
import * as fs from 'fs';
import * as os from 'os';
import * as path from 'path';

const PORT = Number(process.env.ELASTIC_TEST_PORT ?? '8898');
const ROOT = path.resolve(__dirname, '..', '..');

/** Milliseconds until a server must have answered. */
const PATIENCE = 120_000;

export class OwnServer {
  /** `offset` tells its port from those of other servers of the tests. */
  constructor(
    readonly app: 'lab' | 'notebook',
    offset: number
  ) {
    this._port = PORT + offset;
    this.url = `http://localhost:${this._port}`;
  }

  readonly url: string;

  /** Names a file with more configuration. */
  config = '';

  /** Another server on the same cluster, if there is one. */
  beside: OwnServer | null = null;

  /** Where its local cluster is kept. */
  get state(): string {
    return this.beside?.state ?? path.join(this._folder, 'state');
  }

  /** Its folder of notebooks. */
  get root(): string {
    return path.join(this._folder, 'root');
  }

  /** Begin, or begin again on the same folders; resolves when it answers. */
  async start(): Promise<void> {
    this._folder ||= fs.mkdtempSync(path.join(os.tmpdir(), 'elastic-ui-server-'));
    fs.mkdirSync(this.root, { recursive: true });
    const log = fs.openSync(path.join(this._folder, 'log'), 'a');
    this._process = spawn(
      'jupyter',
      [
        this.app,
        '--config=jupyter_server_test_config.py',
        `--ServerApp.port=${this._port}`,
        '--ServerApp.port_retries=0',
        `--ServerApp.root_dir=${this.root}`
      ],
      {
        env: {
          ...process.env,
          ELASTIC_TEST_STATE: this.state,
          ELASTIC_TEST_CONFIG: this.config
        },
        stdio: ['ignore', log, log]
      }
    );
    fs.closeSync(log);
    const deadline = Date.now() + PATIENCE;
    while (!(await this._answers())) {
      if (Date.now() > deadline || this._process.exitCode !== null) {
        throw new Error(`The server did not come up:\n${this.log()}`);
      }
      await new Promise(resolve => setTimeout(resolve, 200));
    }
  }

  /** End it, at once or in order. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const server = this._process;
    if (server && server.exitCode === null && server.signalCode === null) {
      const ended = new Promise(resolve => server.once('exit', resolve));
      server.kill(signal);
      await ended;
    }
    this._process = null;
  }

  /** Stop all kernels, end it, and remove its folders. */
  async close(): Promise<void> {
    if (this._process && (await this._answers())) {
      const answer = await fetch(`${this.url}/elastic/api/kernels`);
      for (const { kernel_id } of (await answer.json()).kernels) {
        await fetch(`${this.url}/elastic/api/kernels/${kernel_id}`, {
          method: 'DELETE'
        });
      }
    }
    await this.end('SIGTERM');
    if (this._folder) {
      fs.rmSync(this._folder, { recursive: true, force: true });
      this._folder = '';
    }
  }

  /** The end of what it wrote. */
  log(): string {
    return fs.readFileSync(path.join(this._folder, 'log'), 'utf8').slice(-8000);
  }

  private async _answers(): Promise<boolean> {
    try {
      return (await fetch(`${this.url}/api/status`)).ok;
    } catch {
      return false;
    }
  }

  private readonly _port: number;
  private _folder = '';
  private _process: ChildProcess | null = null;
}

/** Exit status of the stage where there is no Kubernetes to be had. */
const UNAVAILABLE = 77;

/** A namespace on a real Kubernetes, which is started where none runs. */
export class KubernetesStage {
  /**
   * Resolves with why there is none, or with an empty text once all is there.
   *
   * The first time, Kubernetes is built; that takes minutes.
   */
  async open(): Promise<string> {
    const stage = spawn('python', ['-m', 'tests.kubernetes.stage'], { cwd: ROOT });
    this._process = stage;
    let said = '';
    let complaints = '';
    stage.stderr.on('data', data => (complaints += data));
    return new Promise((resolve, reject) => {
      stage.stdout.on('data', data => {
        said += data;
        const line = said.split('\n').find(one => one.startsWith('{'));
        if (line && said.endsWith('\n')) {
          this.config = JSON.parse(line).config;
          resolve('');
        }
      });
      stage.on('exit', code => {
        this._process = null;
        if (code === UNAVAILABLE) {
          resolve(complaints.trim());
        } else {
          reject(new Error(`There is no Kubernetes:\n${said}\n${complaints}`));
        }
      });
    });
  }

  /** Of a server whose kernels run there. */
  config = '';

  /** Take everything down that was set up. */
  async close(): Promise<void> {
    const stage = this._process;
    if (stage) {
      const ended = new Promise(resolve => stage.once('exit', resolve));
      stage.stdin?.end();
      await ended;
    }
  }

  private _process: ChildProcess | null = null;
}
