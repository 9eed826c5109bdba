/**
 * The REST API under `/elastic/api`, typed. The only module that fetches.
 */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

/** Reason of a problem where no answer came. */
const UNREACHABLE = 'ServerUnreachable';

/** Reason of a problem where the answer was not one of ours. */
const UNWORDED = 'Error';

/** GPUs of one kind. */
export interface IGpu {
  kind: string;
  count: number;
}

/** What a kernel has; quantities in the notation of Kubernetes. */
export interface IResources {
  cpu: string;
  memory: string;
  gpu?: IGpu | null;
}

/** What is left out is the template's default (start) or stays (change). */
export type IResourceWish = Partial<IResources>;

/** What a template offers of CPU or memory. */
export interface IRange {
  minimum: string;
  default: string;
  maximum: string;
  choices: string[];
}

/** What a template offers. */
export interface IOffer {
  cpu: IRange;
  memory: IRange;
  gpu: { kinds: string[]; default: number; maximum: number };
}

export interface ITemplate {
  name: string;
  display_name: string;
  description: string;
  language: string;
  icon_url: string | null;
  preload?: string[];
  resources: IOffer;
  /** When the agent ends a kernel by itself. */
  idle?: IIdlePolicy;
  /** Pods ready to be claimed. */
  warm: number;
  target: number;
}

/** Seconds; 0 means never. */
export interface IIdlePolicy {
  cull_after?: number;
  max_age?: number;
}

export interface IProblem {
  title: string;
  status: number;
  reason: string;
  message: string;
  remedy?: string;
  retry?: boolean;
  field?: string;
}

export type KernelPhase =
  'Queued' | 'Starting' | 'Running' | 'Moving' | 'Stopped' | 'Failed';

export interface IResize {
  state: 'InProgress' | 'Done' | 'Refused';
  reason?: string;
  message?: string;
  time?: number;
}

export interface IKernel {
  kernel_id: string;
  owner?: string;
  template: string;
  display_name?: string;
  name: string;
  path: string;
  phase: KernelPhase;
  reason: string;
  message: string;
  resources: IResources;
  actual?: IResources | null;
  start?: 'warm' | 'cold' | null;
  /** Where it runs. */
  pod?: string | null;
  /** The machine that its pod is on. */
  node?: string | null;
  created: number;
  restarts: number;
  execution_state: string;
  last_activity?: number | null;
  attached: boolean;
  resize?: IResize | null;
  sessions?: { id: string; path: string; name?: string; type?: string }[];
  warnings?: string[];
}

/** One dated line of a start's progress. */
export interface IStep {
  /** Seconds since the epoch. */
  time: number;
  name: string;
  message: string;
}

export interface IProgress {
  phase: KernelPhase;
  reason?: string;
  message?: string;
  done: boolean;
  steps: IStep[];
}

export interface IUsage {
  time: number;
  /** Cores in use since the last reading. */
  cpu?: number | null;
  cpu_limit: number | null;
  /** Bytes. */
  memory: number;
  memory_limit: number | null;
  memory_peak?: number | null;
  /** Counted from the beginning of the pod: how long code had to wait for its CPU limit. */
  throttled_seconds?: number | null;
  /** Counted from the beginning of the pod. */
  oom_kills?: number;
  gpu?: IGpuUsage[];
}

/** One device. */
export interface IGpuUsage {
  kind: string;
  /** Bytes. */
  memory: number;
  memory_total: number;
  /** Percent. */
  utilization: number;
}

export interface IPoolTemplate {
  template: string;
  display_name: string;
  target: number;
  warm: number;
  warming: number;
  claimed: number;
  /** Why the target is not met. */
  message?: string;
  /** Why the target is what it is. */
  reason?: string;
  /** Starts that the server knows of, by whether they found a warm pod. */
  starts?: { warm: number; cold: number };
}

export interface IPool {
  controller: boolean;
  templates: IPoolTemplate[];
}

/** What of CPU or memory is taken; total and free are null where nobody has set a limit. */
export interface IShare {
  total: string | null;
  used: string;
  free: string | null;
}

export interface ICapacity {
  /** `cores` are the machine's, where kernels together may have more CPU than it has. */
  cpu: IShare & { cores?: string };
  memory: IShare;
  gpus: { kind: string; total: number; used: number }[];
}

export interface IStatus {
  /** Who I am. */
  owner?: string;
  cluster: string;
  version: string;
  gpu_kinds: string[];
  enforcement: { memory: string; cpu: string; note: string };
}

export interface IStartRequest {
  template: string;
  resources?: IResourceWish;
  name?: string;
  path?: string;
}

/** What is left out stays. */
export interface IChangeRequest {
  resources?: IResourceWish;
  name?: string;
  /** By another pod of that size: the kernel's variables are lost. Ask first. */
  replace?: boolean;
}

/**
 * A refusal or failure as the server words it: reason, sentence, remedy.
 */
export class ElasticProblem extends Error {
  constructor(options: {
    reason: string;
    message: string;
    remedy?: string;
    status?: number;
    field?: string;
  }) {
    super(options.message);
    this.name = 'ElasticProblem';
    this.reason = options.reason;
    this.remedy = options.remedy ?? '';
    this.status = options.status ?? 0;
    this.field = options.field;
  }

  /** Machine-readable and stable. */
  readonly reason: string;
  /** What to do next; may be empty. */
  readonly remedy: string;
  /** HTTP status; 0 where none was received. */
  readonly status: number;
  /** The field of the request which is wrong, if one is. */
  readonly field?: string;

  /** Sentence and remedy in one line. */
  get text(): string {
    return `${this.message} ${this.remedy}`.trim();
  }

  /**
   * Whether nobody who knows has answered, as when a proxy does not wait as long as the server
   * works: what was asked for may be under way.
   */
  get isUnanswered(): boolean {
    return (
      this.reason === UNREACHABLE ||
      (this.reason === UNWORDED && [502, 503, 504].includes(this.status))
    );
  }

  /** Any thrown thing as a problem. */
  static from(error: unknown): ElasticProblem {
    if (error instanceof ElasticProblem) {
      return error;
    }
    const message = error instanceof Error ? error.message : String(error);
    return new ElasticProblem({ reason: 'Unexpected', message });
  }
}

/** What the model asks of a server; tests give a fake. */
export interface IElasticApi {
  status(): Promise<IStatus>;
  templates(): Promise<{ templates: ITemplate[]; problems: IProblem[] }>;
  kernels(): Promise<IKernel[]>;
  kernel(id: string): Promise<IKernel>;
  start(request: IStartRequest): Promise<IKernel>;
  change(id: string, change: IChangeRequest): Promise<IKernel>;
  stop(id: string): Promise<void>;
  progress(id: string): Promise<IProgress>;
  usage(id: string): Promise<IUsage>;
  keepAlive(id: string): Promise<void>;
  pool(): Promise<IPool>;
  capacity(): Promise<ICapacity>;
}

/**
 * `IElasticApi` over HTTP. Every method rejects with an `ElasticProblem`.
 */
export class ElasticApi implements IElasticApi {
  constructor(settings?: ServerConnection.ISettings) {
    this._settings = settings ?? ServerConnection.makeSettings();
  }

  status(): Promise<IStatus> {
    return this._request<IStatus>('GET', ['status']);
  }

  templates(): Promise<{ templates: ITemplate[]; problems: IProblem[] }> {
    return this._request('GET', ['templates']);
  }

  async kernels(): Promise<IKernel[]> {
    return (await this._request<{ kernels: IKernel[] }>('GET', ['kernels'])).kernels;
  }

  kernel(id: string): Promise<IKernel> {
    return this._request('GET', ['kernels', id]);
  }

  start(request: IStartRequest): Promise<IKernel> {
    return this._request('POST', ['kernels'], request);
  }

  change(id: string, change: IChangeRequest): Promise<IKernel> {
    return this._request('PATCH', ['kernels', id], change);
  }

  async stop(id: string): Promise<void> {
    await this._request('DELETE', ['kernels', id]);
  }

  progress(id: string): Promise<IProgress> {
    return this._request('GET', ['kernels', id, 'progress']);
  }

  usage(id: string): Promise<IUsage> {
    return this._request('GET', ['kernels', id, 'usage']);
  }

  async keepAlive(id: string): Promise<void> {
    await this._request('POST', ['kernels', id, 'keepalive']);
  }

  pool(): Promise<IPool> {
    return this._request('GET', ['pool']);
  }

  capacity(): Promise<ICapacity> {
    return this._request('GET', ['capacity']);
  }

  private async _request<T>(method: string, path: string[], body?: object): Promise<T> {
    const url = URLExt.join(
      this._settings.baseUrl,
      'elastic',
      'api',
      ...path.map(encodeURIComponent)
    );
    const init: RequestInit = { method };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers = { 'Content-Type': 'application/json' };
    }
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(url, init, this._settings);
    } catch {
      throw new ElasticProblem({
        reason: UNREACHABLE,
        message: 'The Jupyter server did not answer.',
        remedy: 'Nothing is lost; this is tried again.'
      });
    }
    const text = await response.text();
    let data: unknown;
    try {
      data = text ? JSON.parse(text) : undefined;
    } catch {
      // A proxy's page in place of ours: the status line says what there is to say.
      data = undefined;
    }
    if (!response.ok) {
      throw problemOf(response, data);
    }
    return data as T;
  }

  private readonly _settings: ServerConnection.ISettings;
}

function problemOf(response: Response, data: unknown): ElasticProblem {
  const body = (typeof data === 'object' && data ? data : {}) as Partial<IProblem>;
  if (!body.reason && response.status === 404) {
    return new ElasticProblem({
      reason: 'NotInstalled',
      message: 'This Jupyter server does not serve elastic kernels.',
      remedy:
        'Enable the server extension: jupyter server extension enable jupyter_elastic.',
      status: 404
    });
  }
  return new ElasticProblem({
    reason: body.reason ?? UNWORDED,
    // `title` is the bare sentence; `message` repeats it with the remedy for other clients.
    message:
      body.title ??
      body.message ??
      `The server answered ${response.status} ${response.statusText}.`,
    remedy: body.remedy,
    status: response.status,
    field: body.field
  });
}
