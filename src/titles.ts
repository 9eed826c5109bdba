/**
 * What kernels are called, and which notebook they belong to. Pure.
 */
import { IKernel } from './request';

/**
 * What to call a kernel in a sentence: its name, its notebook's, its session's, and where there
 * is none, the template's with the beginning of the id, which tells it from others.
 */
export function kernelTitle(kernel: IKernel): string {
  const session = kernel.sessions?.find(one => one.name);
  return (
    kernel.name ||
    lastPart(sessionPath(kernel)) ||
    session?.name ||
    lastPart(notebookOf(kernel)) ||
    `${kernel.display_name || kernel.template} (${kernel.kernel_id.slice(0, 8)})`
  );
}

/** Path of a notebook that has a session on the kernel; empty where none has. */
export function sessionPath(kernel: IKernel): string {
  return (
    kernel.sessions?.find(
      one => one.type !== 'console' && one.path && !MADE_UP.test(one.path)
    )?.path ?? ''
  );
}

/** Lab makes a session as folder/UUID and gives it the document's path later, consoles never. */
const MADE_UP = /(^|[/-])[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/i;

function lastPart(path: string): string {
  return path.split('/').pop() ?? '';
}

/** Path of the notebook that a kernel was started for or is used by; may be empty. */
export function notebookOf(kernel: IKernel): string {
  return sessionPath(kernel) || (kernel.path.endsWith('.ipynb') ? kernel.path : '');
}
