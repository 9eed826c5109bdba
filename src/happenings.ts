/**
 * What a user should be told of, found by comparing a kernel with itself a moment ago. Pure.
 */
import { IKernel } from './request';

/** Something that a user should be told of. */
export interface IHappening {
  kind:
    | 'starting'
    | 'running'
    | 'out-of-memory'
    | 'came-back'
    | 'failed'
    | 'start-failed'
    | 'ended';
  kernel: IKernel;
}

/** Whether this reason of an end is the template's idle policy. */
export function isPolicy(reason: string): boolean {
  return reason === 'Idle' || reason === 'MaxAge';
}

/** Whether a kernel is on its way to Running for the first time. */
export function isStarting(kernel: IKernel): boolean {
  return kernel.phase === 'Queued' || kernel.phase === 'Starting';
}

/** Whether a kernel is on its way to Running, for the first time or in another pod. */
export function isUnderWay(kernel: IKernel): boolean {
  return isStarting(kernel) || kernel.phase === 'Moving';
}

/**
 * Whether a kernel was restarted, moved or killed since `before`, so that what was said of it
 * before is no longer true. That all is well again is no such thing.
 */
export function hasBegunAnew(before: IKernel, kernel: IKernel): boolean {
  return (
    before.restarts !== kernel.restarts ||
    before.start !== kernel.start ||
    (before.reason !== kernel.reason && kernel.reason !== '')
  );
}

/** What a user should be told of a kernel that was as `before` and now is as `kernel`. */
export function whatHappened(
  before: IKernel | null,
  kernel: IKernel
): IHappening['kind'] | null {
  const wasStarting = before !== null && isStarting(before);
  if (kernel.phase === 'Failed') {
    if (before?.phase === 'Failed') {
      return null;
    }
    return wasStarting ? 'start-failed' : 'failed';
  }
  if (
    before &&
    kernel.reason === 'OutOfMemory' &&
    (before.reason !== 'OutOfMemory' ||
      before.message !== kernel.message ||
      before.restarts !== kernel.restarts)
  ) {
    return 'out-of-memory';
  }
  if (
    before?.phase === 'Running' &&
    kernel.phase === 'Running' &&
    kernel.reason !== '' &&
    kernel.restarts > before.restarts
  ) {
    // It died, and was started again; a restart that was asked for has no reason.
    return 'came-back';
  }
  if (isStarting(kernel)) {
    return wasStarting ? null : 'starting';
  }
  return kernel.phase === 'Running' && wasStarting ? 'running' : null;
}

/** Whether what was told of a kernel is still how things stand, now that it is as `now`. */
export function isStillSo(told: IKernel, now: IKernel | null): boolean {
  if (!now) {
    // Its record may have been cleared away before anybody has read why it failed.
    return told.phase === 'Failed';
  }
  return (
    told.phase === now.phase &&
    told.reason === now.reason &&
    told.restarts === now.restarts
  );
}
