/** A server made of values, and events that tests send. */
import { Event } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';
import {
  ElasticProblem,
  ICapacity,
  IChangeRequest,
  IElasticApi,
  IKernel,
  IPool,
  IProblem,
  IProgress,
  IResourceWish,
  IStartRequest,
  IStatus,
  ITemplate,
  IUsage
} from '../request';
import { IResizeState } from '../resize';

export function makeTemplate(changes: Partial<ITemplate> = {}): ITemplate {
  return {
    name: 'py',
    display_name: 'Python, pooled',
    description: 'With pandas.',
    language: 'python',
    icon_url: null,
    resources: {
      cpu: { minimum: '100m', default: '1', maximum: '4', choices: [] },
      memory: { minimum: '128Mi', default: '1Gi', maximum: '8Gi', choices: [] },
      gpu: { kinds: [], default: 0, maximum: 0 }
    },
    warm: 2,
    target: 2,
    ...changes
  };
}

export function makeKernel(changes: Partial<IKernel> = {}): IKernel {
  return {
    kernel_id: 'k1',
    template: 'py',
    display_name: 'Python, pooled',
    name: '',
    path: 'work/demo.ipynb',
    phase: 'Running',
    reason: '',
    message: '',
    resources: { cpu: '1', memory: '1Gi', gpu: null },
    actual: { cpu: '1', memory: '1Gi', gpu: null },
    created: 100,
    restarts: 0,
    execution_state: 'idle',
    attached: true,
    resize: null,
    sessions: [],
    warnings: [],
    ...changes
  };
}

export function makeResize(changes: Partial<IResizeState> = {}): IResizeState {
  return {
    state: 'applying',
    wish: {},
    replaces: false,
    message: '',
    remedy: '',
    reason: '',
    ...changes
  };
}

export class FakeApi implements IElasticApi {
  readonly calls: string[] = [];
  readonly store = new Map<string, IKernel>();
  readonly steps = new Map<string, IProgress>();
  readonly changes: ({ id: string } & IChangeRequest)[] = [];
  offered: ITemplate[] = [makeTemplate()];
  /** Thrown by the next calls of that name, once each. */
  readonly failures = new Map<string, ElasticProblem>();
  /** What PATCH answers; default: done at once. */
  onChange: (kernel: IKernel, wish: IResourceWish) => IKernel = (kernel, wish) => ({
    ...kernel,
    resources: { ...kernel.resources, ...wish },
    resize: { state: 'Done' }
  });

  /** PATCH answers no sooner than this is resolved. */
  answering: Promise<void> = Promise.resolve();

  /**
   * Let the next call of that name see things as they are when it is made, and answer only when
   * what is returned is called: by then its answer may be old.
   */
  hold(name: string): () => void {
    let release = (): void => undefined;
    this._held.set(name, new Promise(resolve => (release = resolve)));
    return () => release();
  }

  put(kernel: IKernel): IKernel {
    this.store.set(kernel.kernel_id, kernel);
    return kernel;
  }

  count(name: string): number {
    return this.calls.filter(call => call === name).length;
  }

  status(): Promise<IStatus> {
    return this._answer('status', () => ({
      cluster: 'local',
      version: '1',
      gpu_kinds: [],
      enforcement: { memory: 'cgroup-v1', cpu: 'cgroup-v1', note: '' }
    }));
  }

  templates(): Promise<{ templates: ITemplate[]; problems: IProblem[] }> {
    return this._answer('templates', () => ({ templates: this.offered, problems: [] }));
  }

  kernels(): Promise<IKernel[]> {
    return this._answer('kernels', () => [...this.store.values()]);
  }

  kernel(id: string): Promise<IKernel> {
    return this._answer('kernel', () => this._get(id));
  }

  start(request: IStartRequest): Promise<IKernel> {
    return this._answer('start', () => {
      const id = `k${this.store.size + 1}`;
      this.steps.set(id, { phase: 'Starting', done: false, steps: [] });
      return this.put(
        makeKernel({
          kernel_id: id,
          template: request.template,
          name: request.name ?? '',
          phase: 'Starting'
        })
      );
    });
  }

  async change(id: string, change: IChangeRequest): Promise<IKernel> {
    await this.answering;
    return this._answer('change', () => {
      this.changes.push({ id, ...change });
      return this.put(this.onChange(this._get(id), change.resources ?? {}));
    });
  }

  stop(id: string): Promise<void> {
    return this._answer('stop', () => {
      this._get(id);
      this.store.delete(id);
    });
  }

  progress(id: string): Promise<IProgress> {
    return this._answer('progress', () => {
      this._get(id);
      return this.steps.get(id) ?? { phase: 'Running', done: true, steps: [] };
    });
  }

  usage(id: string): Promise<IUsage> {
    return this._answer('usage', () => {
      this._get(id);
      return {
        time: 1,
        cpu: 0.5,
        cpu_limit: 1,
        memory: 256 * 2 ** 20,
        memory_limit: 2 ** 30
      };
    });
  }

  keepAlive(id: string): Promise<void> {
    return this._answer('keepAlive', () => {
      this._get(id);
    });
  }

  pool(): Promise<IPool> {
    return this._answer('pool', () => ({ controller: true, templates: [] }));
  }

  capacity(): Promise<ICapacity> {
    return this._answer('capacity', () => ({
      cpu: { total: '8', used: '2', free: '6' },
      memory: { total: '16Gi', used: '4Gi', free: '12Gi' },
      gpus: []
    }));
  }

  private async _answer<T>(name: string, answer: () => T): Promise<T> {
    this.calls.push(name);
    const failure = this.failures.get(name);
    if (failure) {
      this.failures.delete(name);
      throw failure;
    }
    const held = this._held.get(name);
    this._held.delete(name);
    try {
      return answer();
    } finally {
      if (held) {
        await held;
      }
    }
  }

  private _get(id: string): IKernel {
    const kernel = this.store.get(id);
    if (!kernel) {
      throw new ElasticProblem({
        reason: 'UnknownKernel',
        message: `No kernel ${id}.`,
        status: 404
      });
    }
    return kernel;
  }

  private readonly _held = new Map<string, Promise<void>>();
}

/** An event bus; `send` is what the server would do. */
export class FakeEvents {
  readonly signal = new Signal<Event.IManager, Event.Emission>({} as Event.IManager);

  get manager(): Event.IManager {
    return { stream: this.signal } as unknown as Event.IManager;
  }

  sendKernel(kernel: IKernel, change = 'changed', more: object = {}): void {
    this.signal.emit({
      schema_id: 'urn:jupyter-elastic:kernel:v1',
      kernel_id: kernel.kernel_id,
      phase: kernel.phase,
      change,
      ...more
    });
  }

  sendPool(): void {
    this.signal.emit({ schema_id: 'urn:jupyter-elastic:pool:v1', template: 'py' });
  }
}
