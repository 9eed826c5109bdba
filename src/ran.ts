/**
 * Which kernels have run something, as far as this page has seen: with the others nothing is lost.
 */
import { ISessionContext } from '@jupyterlab/apputils';
import { Kernel, KernelMessage } from '@jupyterlab/services';

const KEY = 'jupyter_elastic:ran';

/** How many kernels are remembered over a reload of the page; more do not matter. */
const MOST = 200;

export class Ran {
  /** `store` outlives a reload of the page, and not the tab. */
  constructor(private readonly _store: Pick<Storage, 'getItem' | 'setItem'>) {
    this._ids = read(_store);
  }

  /** Whether a kernel's end would lose something. */
  hasWork(kernel: Kernel.IKernelConnection): boolean {
    const { id, status } = kernel;
    return this._ids.has(id) || (status === 'busy' && !this._asked.has(id));
  }

  /** Notice what the kernels of a document run. */
  watch(context: ISessionContext): void {
    context.iopubMessage.connect(this._onMessage, this);
    context.statusChanged.connect(this._onStatus, this);
  }

  private _onMessage(context: ISessionContext, message: KernelMessage.IMessage): void {
    const id = context.session?.kernel?.id;
    if (!id) {
      return;
    }
    const { msg_type } = message.header;
    if (msg_type === 'execute_input' && !this._ids.has(id)) {
      this._ids.add(id);
      this._keep();
    } else if (msg_type === 'status') {
      const { content, parent_header } = message as KernelMessage.IStatusMsg;
      const cause = (parent_header as { msg_type?: string }).msg_type;
      if (content.execution_state === 'busy' && cause && cause !== 'execute_request') {
        // It is asked about itself, completes a word: no work.
        this._asked.add(id);
      } else {
        this._asked.delete(id);
      }
    }
  }

  private _onStatus(context: ISessionContext, status: Kernel.Status): void {
    const id = context.session?.kernel?.id;
    if (id && (status === 'restarting' || status === 'autorestarting')) {
      // All is lost already.
      this._asked.delete(id);
      if (this._ids.delete(id)) {
        this._keep();
      }
    }
  }

  private _keep(): void {
    try {
      this._store.setItem(KEY, JSON.stringify([...this._ids].slice(-MOST)));
    } catch {
      // The store is full or forbidden: known until the page is loaded again.
    }
  }

  private readonly _ids: Set<string>;
  /** Kernels that are busy with something else than code. */
  private readonly _asked = new Set<string>();
}

function read(store: Pick<Storage, 'getItem'>): Set<string> {
  try {
    const found: unknown = JSON.parse(store.getItem(KEY) ?? '[]');
    return new Set(
      Array.isArray(found) ? found.filter(one => typeof one === 'string') : []
    );
  } catch {
    // Of somebody else, or forbidden.
    return new Set();
  }
}
