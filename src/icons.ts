import { LabIcon } from '@jupyterlab/ui-components';
import elasticSvg from '../style/icons/elastic.svg';

/** A pod that stretches: the icon of the panel and the chip. */
export const elasticIcon = new LabIcon({
  name: 'jupyter_elastic:elastic',
  svgstr: elasticSvg
});
