/**
 * When a kernel will be ended because it is idle or old, as its template has it. Pure.
 *
 * The agent decides; here it is only foretold, from what the server knows of the kernel.
 */
import { IIdlePolicy, IKernel } from './request';

/** The end that awaits a kernel. */
export interface IForetoldEnd {
  cause: 'idle' | 'age';
  /** Seconds from now; never negative. */
  left: number;
}

/**
 * What will end a kernel if nothing happens to it; null where nothing will.
 *
 * `keptAt` is when somebody last asked to keep it, `now` the present; seconds since the epoch.
 */
export function foretellEnd(
  kernel: IKernel,
  policy: IIdlePolicy | undefined,
  now: number,
  keptAt = 0
): IForetoldEnd | null {
  if (!policy || kernel.phase !== 'Running') {
    return null;
  }
  const ends: IForetoldEnd[] = [];
  const add = (cause: IForetoldEnd['cause'], at: number): void => {
    ends.push({ cause, left: Math.max(0, at - now) });
  };
  if (policy.max_age) {
    add('age', kernel.created + policy.max_age);
  }
  // Busy is never idle; of a kernel that this server is not attached to, nothing is known.
  if (policy.cull_after && kernel.execution_state === 'idle' && kernel.last_activity) {
    add('idle', Math.max(kernel.last_activity, keptAt) + policy.cull_after);
  }
  return ends.sort((a, b) => a.left - b.left)[0] ?? null;
}
