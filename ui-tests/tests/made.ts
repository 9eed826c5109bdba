/** A server's answers, made up so that every run shows the same: no time, no name, no figure moves. */
import { Page } from '@playwright/test';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** Long ago: no age is ever told in seconds. */
const CREATED = 1_700_000_000;

const RESOURCES = {
  cpu: { minimum: '100m', default: '1', maximum: '8', choices: [] },
  memory: { minimum: '128Mi', default: '1Gi', maximum: '32Gi', choices: [] },
  gpu: { kinds: ['nvidia-a100'], default: 0, maximum: 2 }
};

const TEMPLATES = [
  {
    name: 'elastic-python3',
    display_name: 'Python 3, elastic',
    description: 'Answers at once; CPU and memory can be changed while it runs.',
    language: 'python',
    icon_url: null,
    preload: [],
    resources: RESOURCES,
    idle: { cull_after: 0, max_age: 0 },
    warm: 2,
    target: 3
  },
  {
    name: 'large',
    display_name: 'Large',
    description: 'For what does not fit elsewhere.',
    language: 'python',
    icon_url: null,
    preload: [],
    resources: RESOURCES,
    idle: { cull_after: 0, max_age: 0 },
    warm: 0,
    target: 1
  }
];

export interface IMadeKernel {
  kernel_id: string;
  [field: string]: unknown;
}

export function makeKernel(id: string, changes: object = {}): IMadeKernel {
  return {
    kernel_id: id,
    owner: 'ada',
    template: 'elastic-python3',
    display_name: 'Python 3, elastic',
    name: '',
    path: 'work/analysis.ipynb',
    phase: 'Running',
    reason: '',
    message: '',
    resources: { cpu: '2', memory: '4Gi', gpu: { kind: 'nvidia-a100', count: 1 } },
    actual: { cpu: '2', memory: '4Gi', gpu: { kind: 'nvidia-a100', count: 1 } },
    start: 'warm',
    pod: 'elastic-python3-7kq2x',
    node: 'node1',
    created: CREATED,
    restarts: 0,
    execution_state: 'idle',
    last_activity: CREATED,
    attached: true,
    resize: null,
    sessions: [],
    warnings: [],
    ...changes
  };
}

function poolRow(template: string, name: string, changes: object): object {
  return {
    template,
    display_name: name,
    warm: 2,
    warming: 1,
    target: 3,
    claimed: 4,
    reason: 'Mondays at 9:00 see 2.4 starts within the 40 s that a pod takes.',
    starts: { warm: 45, cold: 5 },
    ...changes
  };
}

/** What of CPU (cores) and memory (GiB) was in use, reading by reading; then nothing changes. */
const USE = [
  [0.2, 0.5],
  [0.4, 0.8],
  [1.9, 2.2],
  [2, 3.1],
  [1.2, 3.3],
  [0.5, 3.5]
];

/** Answer all that the panel reads; `kernels` is read anew each time. */
export async function answer(
  page: Page,
  kernels: () => readonly IMadeKernel[]
): Promise<void> {
  const answers: { [path: string]: () => unknown } = {
    status: () => ({
      cluster: 'kubernetes',
      version: '0',
      owner: 'ada',
      gpu_kinds: ['nvidia-a100'],
      enforcement: { memory: 'kubelet', cpu: 'kubelet', note: '' }
    }),
    templates: () => ({ templates: TEMPLATES, problems: [] }),
    kernels: () => ({ kernels: kernels() }),
    pool: () => ({
      controller: true,
      templates: [
        poolRow('elastic-python3', 'Python 3, elastic', {}),
        poolRow('large', 'Large', {
          warm: 0,
          target: 1,
          message: 'The quota has no room for another pod.',
          starts: { warm: 0, cold: 0 }
        })
      ],
      pods: []
    }),
    capacity: () => ({
      cpu: { total: '32', used: '9', free: '23' },
      memory: { total: '128Gi', used: '118Gi', free: '10Gi' },
      gpus: [{ kind: 'nvidia-a100', total: 4, used: 3 }]
    }),
    usage: () => ({
      time: CREATED + 5 * read,
      cpu: USE[read][0],
      cpu_seconds: 1,
      cpu_limit: 2,
      // For a quarter of the third interval its code had to wait.
      throttled_seconds: read < 3 ? 0 : 1.3,
      memory: USE[read][1] * GIB,
      memory_limit: 4 * GIB,
      memory_peak: 3.6 * GIB,
      gpu: [
        {
          id: 'GPU-1',
          kind: 'NVIDIA A100',
          memory: 20480 * MIB,
          memory_total: 81920 * MIB,
          utilization: 62
        }
      ]
    })
  };
  let read = -1;
  await page.route(/\/elastic\/api\//, async route => {
    const parts = new URL(route.request().url()).pathname.split('/elastic/api/')[1];
    const [kind, id, verb] = parts.split('/');
    if (verb === 'usage') {
      read = Math.min(read + 1, USE.length - 1);
    }
    const known = id ? kernels().find(one => one.kernel_id === id) : null;
    const json =
      kind === 'kernels' && id ? (verb ? answers[verb]?.() : known) : answers[kind]?.();
    await (json ? route.fulfill({ json }) : route.fulfill({ status: 404, json: {} }));
  });
}
