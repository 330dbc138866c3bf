const TIPS=JSON.parse(document.getElementById('tips').textContent),tip=document.getElementById('hover'),NS='http://www.w3.org/2000/svg';
function el(parent,name,attributes,text){const e=document.createElementNS(NS,name);for(const k in attributes)e.setAttribute(k,attributes[k]);
 if(text!==undefined)e.textContent=text;parent.appendChild(e);return e}
function short(v){const a=Math.abs(v);if(a>=1e9)return +(v/1e9).toPrecision(3)+'G';if(a>=1e6)return +(v/1e6).toPrecision(3)+'M';
 if(a>=1e4)return +(v/1e3).toPrecision(3)+'k';return ''+ +v.toPrecision(4)}
function ticks(a,b){const raw=(b-a)/6,p=Math.pow(10,Math.floor(Math.log10(raw))),s=[1,2,5,10].map(m=>m*p).find(v=>v>=raw)||10*p,out=[];
 for(let v=Math.ceil(a/s)*s;v<=b+s*1e-9;v+=s)out.push(v);return out}
function chart(svg){const data=JSON.parse(document.getElementById(svg.id+'-data').textContent),P=data.points;if(!P.length)return;
 const L=76,R=846,T=14,B=332,xs=P.flatMap(p=>p.length>5?[p[0],p[4],p[5]]:[p[0]]),ys=P.map(p=>p[1]);
 function span(v){let a=v.reduce((m,x)=>Math.min(m,x),Infinity),b=v.reduce((m,x)=>Math.max(m,x),-Infinity);const d=(b-a)||Math.abs(a)||1;return[a-d*.05,b+d*.05]}
 const start=[...span(xs),...span(ys)];let [x0,x1,y0,y1]=start;
 const X=v=>L+(v-x0)/(x1-x0)*(R-L),Y=v=>B-(v-y0)/(y1-y0)*(B-T);
 function paint(){svg.replaceChildren();const clip=el(svg,'clipPath',{id:svg.id+'-clip'});el(clip,'rect',{x:L,y:T,width:R-L,height:B-T});
  for(const v of ticks(x0,x1)){el(svg,'line',{x1:X(v),x2:X(v),y1:T,y2:B,stroke:'#eef1f4'});el(svg,'text',{x:X(v),y:B+18,'text-anchor':'middle','font-size':11,fill:'#46505a'},short(v))}
  for(const v of ticks(y0,y1)){el(svg,'line',{x1:L,x2:R,y1:Y(v),y2:Y(v),stroke:'#eef1f4'});el(svg,'text',{x:L-8,y:Y(v)+4,'text-anchor':'end','font-size':11,fill:'#46505a'},short(v))}
  el(svg,'text',{x:(L+R)/2,y:B+40,'text-anchor':'middle','font-size':12,fill:'#1f272e'},data.x);
  el(svg,'text',{x:16,y:(T+B)/2,'text-anchor':'middle','font-size':12,fill:'#1f272e',transform:'rotate(-90 16 '+(T+B)/2+')'},data.y);
  const g=el(svg,'g',{'clip-path':'url(#'+svg.id+'-clip)'});
  const chosen=P.filter(p=>p[2]).sort((a,b)=>a[0]-b[0]);
  if(data.joined&&chosen.length>1){let d='M'+X(chosen[0][0])+' '+Y(chosen[0][1]);for(const p of chosen.slice(1))d+=' H'+X(p[0])+' V'+Y(p[1]);
   if(data.joined==2)d+=' H'+R;el(g,'path',{d:d,fill:'none',stroke:'#2563a8','stroke-width':1.5})}
  if(data.equal){const a=Math.max(x0,y0),b=Math.min(x1,y1);if(b>a)el(g,'line',{x1:X(a),y1:Y(a),x2:X(b),y2:Y(b),stroke:'#7b8791','stroke-dasharray':'5 4'})}
  for(const p of P)if(p.length>5)el(g,'line',{x1:X(p[4]),x2:X(p[5]),y1:Y(p[1]),y2:Y(p[1]),stroke:'#9db9d6','stroke-width':1});
  for(const p of [...P].sort((a,b)=>a[2]-b[2])){const c=el(g,'circle',{cx:X(p[0]),cy:Y(p[1]),r:p[2]?5:4,fill:p[2]?'#2563a8':'#ffffff','fill-opacity':p[2]?1:.6,stroke:p[2]?'#153d68':'#7b8791'});
   c.addEventListener('mouseenter',e=>{tip.textContent=TIPS[p[3]]+(p.length>5?'\nexpected '+short(p[4])+' to '+short(p[5]):'');tip.style.display='block'});
   c.addEventListener('mousemove',e=>{tip.style.left=Math.min(e.clientX+14,innerWidth-440)+'px';tip.style.top=(e.clientY+14)+'px'});
   c.addEventListener('mouseleave',()=>tip.style.display='none')}}
 function at(e){const r=svg.getBoundingClientRect();return[(e.clientX-r.left)/r.width*860,(e.clientY-r.top)/r.height*380]}
 svg.addEventListener('wheel',e=>{e.preventDefault();const[px,py]=at(e),k=e.deltaY<0?.8:1.25,fx=x0+(px-L)/(R-L)*(x1-x0),fy=y0+(B-py)/(B-T)*(y1-y0);
  x0=fx-(fx-x0)*k;x1=fx+(x1-fx)*k;y0=fy-(fy-y0)*k;y1=fy+(y1-fy)*k;paint()},{passive:false});
 let grip=null;svg.addEventListener('pointerdown',e=>grip=[at(e),[x0,x1,y0,y1]]);addEventListener('pointerup',()=>grip=null);
 svg.addEventListener('pointermove',e=>{if(!grip)return;const[px,py]=at(e),dx=(px-grip[0][0])/(R-L),dy=(py-grip[0][1])/(B-T),[a,b,c,d]=grip[1];
  x0=a-dx*(b-a);x1=b-dx*(b-a);y0=c+dy*(d-c);y1=d+dy*(d-c);paint()});
 svg.addEventListener('dblclick',()=>{[x0,x1,y0,y1]=start;paint()});paint()}
document.querySelectorAll('svg.chart').forEach(chart);
