/**
 * How resizes that were asked for here stand.
 */
import { ISignal } from '@lumino/signaling';
import { ElasticProblem, IKernel } from './request';

/** How a resize stands; a refusal has the server's sentence and, where it gives one, a remedy. */
export interface IResizeState {
  state: 'applying' | 'done' | 'refused';
  message: string;
  remedy: string;
}

/** A resize that another client asked for, as far as the kernel's record tells. */
export function seenResize(kernel: IKernel | null): IResizeState | null {
  const seen = kernel?.resize;
  return seen?.state === 'InProgress'
    ? { state: 'applying', message: seen.message ?? '', remedy: '' }
    : null;
}

/**
 * Wait until a kernel's resize is no longer in progress; resolves with the kernel.
 *
 * Rejects with an `ElasticProblem` when it was refused, or the kernel ended meanwhile.
 */
export function resized<T>(
  kernel: IKernel,
  changes: IKernelChanges<T>
): Promise<IKernel> {
  const id = kernel.kernel_id;
  return new Promise((resolve, reject) => {
    const check = (now: IKernel): boolean => {
      if (now.resize?.state === 'InProgress') {
        return false;
      }
      if (now.resize?.state === 'Refused') {
        const { reason, message } = now.resize;
        reject(
          new ElasticProblem({ reason: reason || 'Refused', message: message ?? '' })
        );
      } else {
        resolve(now);
      }
      return true;
    };
    if (check(kernel)) {
      return;
    }
    const end = (): void => {
      changes.noted.disconnect(onNoted);
      changes.dropped.disconnect(onDropped);
    };
    const onNoted = (_: T, now: IKernel): void => {
      if (now.kernel_id === id && check(now)) {
        end();
      }
    };
    const onDropped = (_: T, dropped: string): void => {
      if (dropped === id) {
        end();
        reject(
          new ElasticProblem({
            reason: 'Gone',
            message: 'The kernel ended while it was resized.',
            remedy: 'Start a new kernel.'
          })
        );
      }
    };
    changes.noted.connect(onNoted);
    changes.dropped.connect(onDropped);
  });
}

/** The news of kernels that `resized` waits for. */
export interface IKernelChanges<T> {
  /** A kernel as it is now. */
  noted: ISignal<T, IKernel>;
  /** The id of a kernel that has gone. */
  dropped: ISignal<T, string>;
}
